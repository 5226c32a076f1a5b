"""Trainings and the process that runs them, on a real Redis and a real store: claims, leases, fences, and deaths."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import redis

from difuso.jobs.trainings.datasets import Datasets
from difuso.jobs.trainings.records import (
    LEASE_SECONDS,
    Claim,
    LeaseLost,
    Order,
    Progress,
    Training,
    TrainingNotFound,
    Trainings,
)
from difuso.jobs.trainings.scripts import ALL, DUE, NAMES, RECORD
from tests.training_lab import Lab, ordered, tiny
from tests.waiting import wait_until

# Each trains for a while, on cores that other tests want too.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def trainings(client: redis.Redis) -> Trainings:
    return Trainings(client)


def claimed(trainings: Trainings, asked: Literal["", "delete"] = "") -> Claim:
    claim = trainings.claim(asked)
    assert claim is not None
    return claim


def expire(client: redis.Redis, training_id: str) -> None:
    client.zadd(DUE, {training_id: 1})


def test_a_training_goes_to_one_trainer_and_the_first_ordered_goes_first(trainings: Trainings) -> None:
    orders = [ordered(trainings, name) for name in ("a", "b")]
    assert [claimed(trainings).training.id for _ in orders] == [each.id for each in orders]
    assert trainings.claim() is None
    assert {each.state for each in trainings.all()} == {"running"}


def test_a_front_end_whose_clock_is_ahead_keeps_nobody_waiting(trainings: Trainings) -> None:
    order = ordered(trainings).model_copy(
        update={"id": str(uuid.uuid4()), "name": "b", "created_at": time.time() + 1000}
    )
    assert trainings.create(order)
    claimed(trainings)
    assert claimed(trainings).training.id == order.id


def test_one_name_is_of_one_training_until_it_is_deleted(trainings: Trainings) -> None:
    order = ordered(trainings)
    again = order.model_copy(update={"id": str(uuid.uuid4())})
    assert not trainings.create(again)
    trainings.ask(order.id, "delete")
    with pytest.raises(TrainingNotFound):
        trainings.get(order.id)
    assert not trainings.create(again)  # its model is there yet
    assert trainings.claim() is None, "a trainer that runs others has no part in it"
    trainings.forget(claimed(trainings, "delete"))
    assert trainings.create(again)


def test_a_silent_trainer_loses_its_training_and_writes_nothing_more(client: redis.Redis, trainings: Trainings) -> None:
    order = ordered(trainings)
    first = claimed(trainings)
    trainings.report(first, saved="1-10", progress=Progress(step=12).model_dump_json())
    due: Any = client.zscore(DUE, order.id)
    assert due > time.time() + LEASE_SECONDS / 2
    assert trainings.claim() is None
    expire(client, order.id)
    second = claimed(trainings)
    assert (second.saved, second.lost, second.training.progress.step) == ("1-10", 1, 12)
    for state in ("running", "succeeded", "queued"):
        with pytest.raises(LeaseLost):
            trainings.report(first, state, saved="1-99")
    trainings.forget(first)
    trainings.report(second, saved="2-20", lost=0)
    expire(client, order.id)
    third = claimed(trainings)
    assert (third.saved, third.lost) == ("2-20", 1)


def state(trainings: Trainings, order: Order) -> str:
    return trainings.get(order.id).state


def test_what_is_asked_reaches_the_trainer_and_holds_if_it_dies(client: redis.Redis, trainings: Trainings) -> None:
    order = ordered(trainings)
    assert trainings.ask(order.id, "pause")
    assert state(trainings, order) == "paused"
    assert trainings.claim() is None
    assert not trainings.ask(order.id, "pause")
    assert trainings.ask(order.id, "resume")
    claim = claimed(trainings)
    assert trainings.ask(order.id, "pause")
    assert state(trainings, order) == "pausing"
    assert trainings.report(claim) == "pause"
    assert trainings.ask(order.id, "resume")
    assert trainings.report(claim) == ""
    assert trainings.ask(order.id, "stop")
    assert state(trainings, order) == "stopping"
    expire(client, order.id)
    assert trainings.claim() is None
    assert state(trainings, order) == "stopped"
    assert trainings.get(order.id).is_over
    assert trainings.ask(order.id, "resume")
    claim = claimed(trainings)
    trainings.report(claim, "succeeded")
    with pytest.raises(LeaseLost):
        trainings.report(claim)
    assert not trainings.ask(order.id, "resume")
    assert not trainings.ask(order.id, "stop")


@pytest.mark.parametrize(("wanted", "state"), [("pause", "paused"), ("stop", "stopped")])
def test_what_is_asked_holds_if_the_trainer_gives_the_training_back(
    trainings: Trainings, wanted: Literal["pause", "stop"], state: str
) -> None:
    order, claim = ordered(trainings), claimed(trainings)
    assert trainings.ask(order.id, wanted)
    assert trainings.report(claim, "queued") == wanted
    assert trainings.get(order.id).state == state
    assert trainings.claim() is None
    assert trainings.ask(order.id, "resume")


def test_a_deletion_that_comes_while_a_training_ends_is_done_by_the_next_claim(trainings: Trainings) -> None:
    order = ordered(trainings)
    claim = claimed(trainings)
    trainings.ask(order.id, "delete")
    assert trainings.report(claim, "succeeded") == "delete"
    assert claimed(trainings, "delete").training.id == order.id


def test_what_ended_or_was_paused_long_ago_is_forgotten_and_its_name_is_free(
    client: redis.Redis, trainings: Trainings
) -> None:
    orders = {name: ordered(trainings, name) for name in ("done", "failed", "stopped", "deleted", "paused", "waits")}
    priced = ordered(trainings, "done", dry_run=True)
    for name in ("done", "failed"):
        trainings.report(claimed(trainings), "succeeded" if name == "done" else "failed")
    for name in ("stopped", "deleted"):
        assert trainings.ask(orders[name].id, "stop")
    trainings.ask(orders["deleted"].id, "delete")
    assert trainings.ask(orders["paused"].id, "pause")
    assert trainings.ask(priced.id, "stop")
    trainings.expire(1000)
    assert known(client) == {each.id for each in (*orders.values(), priced)}
    pass_ttl(client)
    trainings.expire(1000)
    assert known(client) == {orders[name].id for name in ("deleted", "waits")}, "a trainer deletes the first"
    assert sorted(client.hkeys(NAMES)) == [b"deleted", b"waits"]
    assert not [*client.scan_iter(RECORD + priced.id)]
    assert trainings.create(orders["done"])


@pytest.mark.parametrize("state", ["succeeded", "paused"])
def test_an_expired_training_whose_model_is_served_can_still_be_deleted_or_resumed(
    client: redis.Redis, trainings: Trainings, state: Literal["succeeded", "paused"]
) -> None:
    order, claim = ordered(trainings), claimed(trainings)
    progress = Progress(step=9, steps=9, sheets=(3, 9), served=9).model_dump_json()
    trainings.report(claim, saved="1-9", recipe="max_steps = 9", progress=progress)
    trainings.report(claim, state)
    pass_ttl(client)
    trainings.expire(1000)
    found = trainings.get(order.id)
    assert (found.state, found.expired, found.recipe) == (state if state == "succeeded" else "stopped", True, "")
    assert found.progress.served == 9
    assert trainings.ask(order.id, "delete" if state == "succeeded" else "resume")
    taken = claimed(trainings, "delete" if state == "succeeded" else "")
    assert taken.saved == ""
    assert taken.training.expired is (state == "succeeded")


def test_a_record_that_cannot_be_read_is_left_out_and_stands_in_nobodys_way(
    client: redis.Redis, trainings: Trainings, caplog: pytest.LogCaptureFixture
) -> None:
    newer, broken, done = (ordered(trainings, name) for name in ("newer", "broken", "done"))
    client.hset(RECORD + newer.id, "state", "archived")
    client.hset(RECORD + broken.id, mapping={"order": "{", "ended_at": 1})
    for _ in range(2):
        assert [each.name for each in trainings.all()] == ["done"]
    assert len(caplog.records) == 2
    for each in (newer, broken):
        with pytest.raises(TrainingNotFound):
            trainings.get(each.id)
    assert trainings.ask(done.id, "stop")
    pass_ttl(client)
    trainings.expire(1000)
    assert known(client) == {newer.id, broken.id}
    assert trainings.create(done, most=5)


def pass_ttl(client: redis.Redis) -> None:
    """Makes all that has ended have ended 2000 seconds ago."""
    for key in client.scan_iter(RECORD + "*"):
        if client.hexists(key, "ended_at"):
            client.hset(key, "ended_at", time.time() - 2000)


def known(client: redis.Redis) -> set[str]:
    ids: Any = client.zrange(ALL, 0, -1)
    return {each.decode() for each in ids}


@pytest.fixture
def lab(redis_url: str, trainings: Trainings, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(redis_url, tmp_path, trainings)
    yield lab
    lab.close()


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_loses_only_what_came_after_its_last_save(
    lab: Lab, client: redis.Redis
) -> None:
    order = tiny(lab, 200)
    saves: list[Any] = []
    for number in range(2):
        trainer, before = lab.start(), lab.trainings.get(order.id).progress.step
        lab.until(order, lambda found, before=before: found.progress.step >= before + 25, "some steps were made")  # type: ignore[misc]
        own = b"%d-" % (number + 1)  # what a busy machine saves comes later than word of its steps
        wait_until(lambda own=own: (client.hget(RECORD + order.id, "saved") or b"").startswith(own), 20, "it saved")  # type: ignore[misc]
        if number == 0:
            trainer.kill()
            trainer.wait()
        else:
            trainer.send_signal(signal.SIGSTOP)  # it comes back when the training is another's
        saves.append(client.hget(RECORD + order.id, "saved"))
        expire(client, order.id)
    lab.start()
    lab.until(order, lambda found: found.progress.step > 80, "the third goes on")
    os.kill(lab.trainers[1].pid, signal.SIGCONT)
    wait_until(lambda: "is not mine any more" in lab.log, 20, "the second hears that it is late")
    done = lab.until(order, lambda found: found.state == "succeeded", "the training has ended")
    assert done.progress.step == done.progress.steps == done.progress.served == 200
    trained = lab.folder / "trained/cats"
    entries = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    for key, every in (("loss", range(1, 201)), ("held_out/loss", range(10, 201, 10))):
        assert [entry["step"] for entry in entries if key in entry] == [*every], "each step is in the log once"
    assert [int(saved.partition(b"-")[0]) for saved in saves] == [1, 2], "each goes on from its own"
    assert all(int(saved.partition(b"-")[2]) % 10 == 0 for saved in saves)
    kept = lab.store / "trainings" / order.id
    wait_until(lambda: {path.name for path in kept.iterdir()} == {"sheets", "nearest"}, 20, "its states are deleted")
    assert {150, 200} <= set(done.progress.sheets) <= {50, 100, 150, 200}
    assert done.progress.nearest == done.progress.sheets
    assert [step for step, _ in done.progress.held_out or ()] == [*range(10, 201, 10)]
    assert done.progress.copies is not None
    assert str(lab.folder) not in done.log
    config = json.loads((trained / "config.json").read_text())
    assert config["classes"] == ["circle", "square", "triangle"]
    assert "of the samples are nearer to a training image" in (trained / "README.md").read_text()


@pytest.mark.slow
def test_a_training_is_paused_handed_over_stopped_and_deleted(lab: Lab) -> None:
    order = tiny(lab, 100_000, save_every=100_000)
    trainer = lab.start()
    lab.until(order, lambda found: found.progress.step > 10, "it runs")
    assert not list(lab.folder.glob("trained/*"))
    assert lab.trainings.ask(order.id, "pause")
    step = lab.until(order, lambda found: found.state == "paused", "it is paused").progress.step
    assert [path.name for path in lab.folder.glob("trained/*")] == ["cats"]
    assert lab.trainings.ask(order.id, "resume")
    lab.until(order, lambda found: found.progress.step > step, "it goes on")
    assert f"resuming at step {step}" in lab.trainings.get(order.id).log
    trainer.terminate()
    assert trainer.wait(60) == 0
    given_back = lab.trainings.get(order.id)
    assert given_back.state == "queued"
    lab.start()
    lab.until(order, lambda found: found.progress.step > given_back.progress.step, "another trainer goes on")
    assert f"resuming at step {given_back.progress.step}" in lab.trainings.get(order.id).log
    assert lab.trainings.ask(order.id, "stop")
    stopped = lab.until(order, lambda found: found.state == "stopped", "it is stopped")
    assert stopped.progress.served == stopped.progress.step > given_back.progress.step
    assert lab.trainings.ask(order.id, "delete")
    wait_until(lambda: not lab.trainings.all() and lab.trainings.create(order), 20, "its name is free")
    assert not list(lab.folder.glob("trained/*"))
    assert not list(lab.store.glob("trainings/*"))
    assert lab.trainings.ask(order.id, "stop")


@pytest.mark.slow
def test_a_deletion_does_not_wait_until_another_training_has_ended(lab: Lab) -> None:
    order = tiny(lab, 100_000)
    lab.start()
    lab.until(order, lambda found: found.progress.step > 1, "it runs")
    waiting = ordered(lab.trainings, "dogs")
    assert lab.trainings.ask(waiting.id, "delete")
    wait_until(lambda: lab.trainings.create(waiting), 20, "the other is deleted, and its name free")
    assert lab.trainings.get(order.id).state == "running"
    for each in (waiting, order):
        assert lab.trainings.ask(each.id, "delete")
    wait_until(lambda: not sum(lab.trainings.counts().values()), 20, "so is the one that runs")
    assert not list(lab.store.glob("trainings/*"))


@pytest.mark.slow
def test_a_run_that_becomes_nan_goes_on_with_half_the_rate_and_fails_the_second_time(lab: Lab) -> None:
    order = tiny(lab, 100_000, "learning_rate=1e30", "optimizer=adamw", "clip_norm=0")
    lab.start()
    failed = lab.until(order, lambda found: found.state == "failed", "it has failed")
    assert failed.learning_rate == 5e29
    assert failed.reason == "its loss became NaN, and again with the learning rate 5e+29: begin with a lower one"
    assert failed.log.count("lower the learning rate") == 2


@pytest.mark.slow
def test_a_full_disk_before_and_during_a_run_is_said_and_what_was_saved_is_kept(lab: Lab) -> None:
    order = tiny(lab, 20)
    for number, limit in enumerate(("SPARE", "LEAST")):
        full = lab.start(f"attempt.{limit}_BYTES = 1 << 60")
        failed = lab.until(order, lambda found: found.state == "failed", "it has failed")
        assert failed.reason == "the disk of the trainer is full; resume the training when there is space"
        full.terminate()
        assert full.wait(20) == 0
        assert not list(lab.folder.glob(f"machine{number}/training/*"))
        assert lab.trainings.ask(order.id, "resume")
    lab.start()
    done = lab.until(order, lambda found: found.state == "succeeded", "there is space again")
    assert done.progress.step == 20
    assert done.reason is None


@pytest.mark.slow
def test_a_run_whose_process_is_killed_begins_again_a_few_times(lab: Lab) -> None:
    order = tiny(lab, 100_000, save_every=100_000)
    lab.start("attempt.MAX_DEATHS = 1")
    killed = set[int]()
    for number in range(2):

        def trains(found: Training, number: int = number) -> bool:
            _, *logs = found.log.split("training cats: ")
            return len(logs) == number + 1 and "step 2 of" in logs[-1]

        lab.until(order, trains, "another process makes steps")
        (pid,) = lab.run_pids() - killed
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE, "it leaves its processor to whatever else wakes up"
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    failed = lab.until(order, lambda found: found.state == "failed", "it is given up")
    assert failed.reason == "its process was killed 2 times (SIGKILL); it may need more memory than there is"


@pytest.mark.slow
def test_what_cannot_be_trained_fails_with_its_reason(lab: Lab) -> None:
    wrong = tiny(lab, 100, "network.groups=7")
    lab.start()
    failed = lab.until(wrong, lambda found: found.state == "failed", "it has failed")
    assert "groups" in str(failed.reason)
    assert str(lab.folder) not in str(failed.reason)
    Datasets(str(lab.store)).delete(None, "icons")
    assert lab.trainings.ask(wrong.id, "resume")
    failed = lab.until(wrong, lambda found: "not there any more" in str(found.reason), "the dataset is missed")
    assert failed.state == "failed"
