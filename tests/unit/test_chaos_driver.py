"""The chaos driver's own promises: repeatable plans, and a verdict that sees each promise that is broken."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.chaos.client import Errand
from benchmarks.chaos.orders import Order, draw_orders, draw_recipes
from benchmarks.chaos.schedule import REDIS, Break, draw_faults
from benchmarks.chaos.verdict import Evidence, Verdict, judge
from benchmarks.chaos.worker_logs import Line, Wait, ended_more_than_once, in_flight, waits

RECIPES = draw_recipes(0)
HARMLESS = next(index for index, recipe in enumerate(RECIPES) if not recipe.fatal)
POISON = next(index for index, recipe in enumerate(RECIPES) if recipe.fatal)


def line(at: float, event: str, job_id: str = "a", **facts: object) -> Line:
    return Line(at, event, job_id, facts)


def errand(number: int = 0, *, recipe: int = HARMLESS, **seen: object) -> Errand:
    good = {"ids": {f"id-{number}"}, "state": "succeeded", "pictures": ("right",), "steps": 10, "ended_at": 100.0}
    return Errand(Order(number, 0.0, recipe), recipe, **{**good, **seen})  # type: ignore[arg-type]


def evidence(*errands: Errand, **others: object) -> Evidence:
    called = {job_id for errand in errands for job_id in errand.ids}
    right = {("", HARMLESS): ("right",)}
    kept = Evidence(errands, RECIPES, right, [], [], [], [], executed=10.0 * len(errands), called=called)
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
        "repeated steps, where snapshots were taken",
        "kill -9 to next claim, max",
    ]


def test_a_webhook_that_never_came_is_a_broken_promise() -> None:
    assert broken(verdict_on(errand(), errand(1), called={"id-1"})) == ["webhooks that never came"]


def test_steps_count_as_repeated_beyond_what_jobs_needed_also_those_of_clients_that_never_learned_an_id() -> None:
    orphan = line(0, "job accepted", "orphan", image_steps=50)
    done = line(9, "job ended", "orphan", outcome="succeeded")
    verdict = verdict_on(errand(), apis=[[orphan]], workers=[[done]], executed=80.0)
    assert ("repeated steps", "25.0 % of 80") in verdict.rows
    begins_again = line(3, "job bound to another version", "orphan", image_steps=15)
    verdict = verdict_on(errand(), apis=[[orphan]], workers=[[begins_again, done]], executed=80.0)
    assert ("repeated steps", "6.2 % of 80") in verdict.rows


def test_steps_of_which_a_full_disk_took_no_snapshots_break_no_promise() -> None:
    seen = verdict_on(errand(), executed=12.0, unsaved=1.8)
    assert {("repeated steps", "16.7 % of 12"), ("of them where the store took no snapshots", "15.0 %")} <= {*seen.rows}
    assert seen.kept
    assert broken(verdict_on(errand(), executed=12.0, unsaved=1.5)) == ["repeated steps, where snapshots were taken"]
    assert verdict_on(errand(), executed=12.0, unsaved=5.0).kept


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
