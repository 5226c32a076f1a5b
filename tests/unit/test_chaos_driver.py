"""The chaos driver's own promises: repeatable plans, and a verdict that sees each promise that is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.chaos.client import Errand
from benchmarks.chaos.orders import CLASSES, FATAL, FATAL_LATE, Order, draw_orders, draw_recipes
from benchmarks.chaos.schedule import HABITS, REDIS, Break, Habit, draw_faults
from benchmarks.chaos.verdict import Evidence, Verdict, judge
from benchmarks.chaos.worker_logs import Line, Wait, ended_more_than_once, in_flight, read_log, waits

RECIPES = draw_recipes(0)
HARMLESS = next(index for index, recipe in enumerate(RECIPES) if not recipe.fatal)
POISON = next(index for index, recipe in enumerate(RECIPES) if recipe.fatal)


def line(at: float, event: str, job_id: str = "a", **facts: object) -> Line:
    return Line(at, event, job_id, facts)


def errand(number: int = 0, *, recipe: int = HARMLESS, **seen: object) -> Errand:
    good = {"ids": {f"id-{number}"}, "state": "succeeded", "pictures": ("right",), "steps": 10, "ended_at": 100.0}
    return Errand(Order(number, 0.0, recipe), recipe, **{**good, **seen})  # type: ignore[arg-type]


def evidence(*errands: Errand, **others: object) -> Evidence:
    kept = Evidence(errands, RECIPES, {("", HARMLESS): ("right",)}, [], [], [], [], executed=10.0 * len(errands))
    return replace(kept, **others)  # type: ignore[arg-type]


def broken(verdict: Verdict) -> list[str]:
    return [bar.what for bar in verdict.bars if not bar.met]


def verdict_on(*errands: Errand, **others: object) -> Verdict:
    return judge(evidence(*errands, **others), claim_seconds=20, repeated=0.03)


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    assert draw_faults(600, 1) == draw_faults(600, 1) != draw_faults(600, 2)
    assert draw_recipes(1) == draw_recipes(1) != draw_recipes(2)
    assert draw_orders(RECIPES, 60, 1, rate=2) == draw_orders(RECIPES, 60, 1, rate=2)


@pytest.mark.parametrize("seed", range(4))
def test_redis_has_a_minute_between_two_faults_and_all_faults_are_over_at_the_end(seed: int) -> None:
    faults = draw_faults(1200, seed)
    redis = [fault for fault in faults if fault.kind in REDIS]
    assert len(redis) > 8
    assert all(later.at - earlier.ends >= 60 for earlier, later in pairwise(redis))
    assert {fault.kind for fault in faults} == set(Break)
    assert all(fault.at >= 0 and fault.ends <= 1200 for fault in faults)


def test_a_short_run_has_every_kind_of_fault_that_there_is_time_for() -> None:
    assert {fault.kind for fault in draw_faults(120, 0)} >= set(Break) - set(REDIS)


def test_a_fault_that_is_not_wanted_does_not_come() -> None:
    faults = draw_faults(600, 0, {**HABITS, Break.KILL: Habit(0)})
    assert Break.KILL not in {fault.kind for fault in faults}


def test_clients_ask_for_every_kind_of_job_with_and_without_keys() -> None:
    orders = draw_orders(RECIPES, 600, 0, rate=2, poison_at=[10, 20])
    assert len({RECIPES[order.recipe].path for order in orders}) == 4
    assert {order.manner for order in orders} == {"async", "wait", "events"}
    for kind in ("key", "twin", "rival", "cancel_after"):
        assert 0.01 < sum(bool(getattr(order, kind)) for order in orders) / len(orders) < 0.6
    assert [order.at for order in orders if RECIPES[order.recipe].fatal] == [10, 20]


def test_what_went_well_breaks_no_promise() -> None:
    poison = errand(1, recipe=POISON, state="failed", failure="worker_lost", pictures=None)
    assert verdict_on(errand(), poison, executed=20.0, killers={"id-1"}).kept


@pytest.mark.parametrize(
    ("seen", "promise"),
    [
        ({"lost": True}, "lost"),
        ({"state": "running", "pictures": None}, "stuck"),
        ({"state": "failed", "failure": "worker_lost", "pictures": None}, "failed, except poison"),
        ({"recipe": POISON, "pictures": None}, "poison that did not fail"),
        ({"recipe": POISON, "pictures": None}, "poison that killed no worker"),
        ({"recipe": POISON, "pictures": None, "state": None, "ids": set()}, "poison that killed no worker"),
        ({"pictures": ("wrong",)}, "wrong bytes"),
        ({"flipped": True}, "ended twice"),
        ({"ids": {"id-0", "id-1"}}, "keys with two jobs"),
        ({"cancelled_at": 50.0}, "cancels ignored"),
        ({"surprises": ["GET /: 500"]}, "answers that no client should get"),
    ],
)
def test_each_broken_promise_of_a_job_is_named(seen: dict[str, object], promise: str) -> None:
    assert promise in broken(verdict_on(errand(**seen), executed=1.0))  # type: ignore[arg-type]


def test_each_broken_promise_of_the_whole_is_named() -> None:
    twice = [line(1, "job ended"), line(2, "job ended")]
    slow = Wait("a", killed_at=0, claimed_at=21)
    found = verdict_on(
        unasked=["worker-0-0: 1"], keys=["k"], files=["f"], executed=100.0, workers=[twice], waits=[slow]
    )
    assert broken(found) == [
        "ended twice",
        "processes that ended by themselves",
        "keys left after the TTL",
        "files left after the TTL",
        "repeated steps",
        "kill -9 to next claim, max",
    ]


def test_a_wait_for_the_next_claim_counts_only_where_redis_could_have_announced_it() -> None:
    slow = Wait("a", killed_at=0, claimed_at=21)
    assert broken(verdict_on(waits=[slow], redis_away=[(5, 10)])) == []
    assert broken(verdict_on(waits=[slow], redis_away=[(-10, -5), (30, 40)])) == ["kill -9 to next claim, max"]


def test_a_job_counts_as_accepted_on_a_full_disk_once_front_ends_must_know() -> None:
    def accepted(at: float) -> Verdict:
        return verdict_on(apis=[[line(at, "job accepted", image_steps=0)]], store_full=[(10, 20)])

    assert broken(accepted(16)) == ["accepted while the disk was full"]
    for at in (9, 14, 20.5):
        assert accepted(at).kept


def test_steps_count_as_repeated_beyond_what_jobs_needed_also_those_of_clients_that_never_learned_an_id() -> None:
    orphan = line(0, "job accepted", "orphan", image_steps=50)
    done = line(9, "job ended", "orphan", outcome="succeeded")
    verdict = verdict_on(errand(), apis=[[orphan]], workers=[[done]], executed=80.0)
    assert ("repeated steps", "25.0 % of 80") in verdict.rows


def test_logs_say_who_was_in_flight_and_when_they_were_claimed_again() -> None:
    killed = [line(1, "job claimed"), line(1, "job claimed", "b"), line(2, "job ended", "b")]
    next_one = [line(18, "job claimed"), line(19, "job ended")]
    assert in_flight(killed) == {"a"}
    assert [wait.seconds for wait in waits([(killed, 5.0)], [killed, next_one])] == [13.0]
    frozen = [line(1, "job claimed", "c")]
    successor = [line(3, "job claimed", "c")]  # took over before the kill
    third = [line(18, "job claimed", "c")]
    assert waits([(frozen, 5.0)], [frozen, successor, third]) == []
    assert [wait.seconds for wait in waits([(successor, 6.0)], [frozen, successor, third])] == [12.0]
    assert ended_more_than_once([killed, next_one]) == []
    assert ended_more_than_once([next_one, next_one]) == ["a"]


def test_half_a_line_and_lines_about_other_things_are_passed_over(tmp_path: Path) -> None:
    whole = {"timestamp": "2026-11-25T00:00:01.5Z", "event": "job claimed", "job_id": "a", "model": "chaos"}
    log = tmp_path / "worker.log"
    log.write_text(f"Traceback\n17\n{{}}\n{json.dumps(whole)}\n{json.dumps(whole)[:40]}")
    assert [(found.event, found.job_id, found.at % 60) for found in read_log(log)] == [("job claimed", "a", 1.5)]


CALLS = (
    "network(x, t, labels=labels)",
    "network(x=x, t=t, labels=labels)",
    "as_worker(x, t, labels)",
)


@pytest.mark.slow
def test_only_the_fatal_classes_kill_a_process_and_the_late_one_only_late_however_it_calls(tmp_path: Path) -> None:
    about = [(FATAL, 999), (FATAL_LATE, 999), (FATAL_LATE, 9), (CLASSES[0], 9)]
    program = f"""
import os
import torch
from pathlib import Path
from benchmarks.chaos import poison
from difuso.model import load_checkpoint
from difuso.worker.device.calls import by_position

def status_of(call, name, timestep):
    if (child := os.fork()) == 0:
        x, t = torch.zeros(3, 3, 16, 16), torch.tensor([timestep] * 3)
        labels = torch.tensor([0, 3, checkpoint.config.classes.index(name)])
        eval(call, dict(globals(), x=x, t=t, labels=labels))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

torch.set_num_threads(1)
poison.poison_networks()
checkpoint = load_checkpoint(poison.chaos_model(Path({str(tmp_path / "chaos")!r})))
network = checkpoint.network
as_worker = by_position(checkpoint, torch.device("cpu"))
for call in {CALLS!r}:
    print([status_of(call, *about) for about in {about!r}])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.stdout == "[-9, 0, -9, 0]\n" * len(CALLS), done.stdout + done.stderr
