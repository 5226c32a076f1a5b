"""A training whose trainers are killed all the time, and Redis once."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from difuso.jobs.trainings.records import Trainings
from difuso.jobs.trainings.scripts import RECORD
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer
from tests.training_lab import Lab, tiny
from tests.waiting import wait_until

log = logging.getLogger(__name__)

EVERY = 20.0  # seconds between two kills
OF_EACH = 300  # steps that the training has for each of them


class Redis:
    """A Redis that can be killed, and comes back with what it was told."""

    def __init__(self, children: ChildProcesses, folder: Path) -> None:
        self.server = RedisServer(children, folder)
        self.process = self.server.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self.server.start()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    (folder := tmp_path / "redis").mkdir()
    with ChildProcesses() as children:
        server = Redis(children, folder)
        yield server
        server.server.close()


def losses(log: Path) -> dict[int, float]:
    """Returns the losses of a log by their steps, each of which it has once."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    found = [(int(entry["step"]), float(entry["loss"])) for entry in entries if "loss" in entry]
    assert len(found) == len(dict(found)), "each step is in the log once"
    return dict(found)


@pytest.mark.long
@pytest.mark.parametrize("kills", [3, 15])
@pytest.mark.timeout(1200)
def test_a_training_ends_although_its_trainers_are_killed_all_the_time(
    kills: int, own_redis: Redis, tmp_path: Path
) -> None:
    with redis.Redis.from_url(own_redis.server.url) as client:
        trainings = Trainings(client)
        with closing(Lab(own_redis.server.url, tmp_path, trainings)) as lab:
            order = tiny(lab, OF_EACH * (kills + 1), "sheet_every=500")
            saved: list[tuple[int, dict[int, float]]] = []
            repeated = 0
            for number in range(kills):
                trainer, due = lab.start(), time.monotonic() + EVERY
                wait_until(lambda due=due: time.monotonic() >= due, EVERY + 5, "it is time for the next kill")  # type: ignore[misc]
                if number == kills // 2:
                    own_redis.kill()
                trainer.kill()
                trainer.wait()
                if trainings.get(order.id).is_over:
                    break
                record: Any = client.hmget(RECORD + order.id, "saved", "lost")
                if record[0]:
                    name = record[0].decode()
                    there = losses(lab.store / "trainings" / order.id / "states" / name / "metrics.jsonl")
                    step = int(name.partition("-")[2])
                    saved.append((step, {at: loss for at, loss in there.items() if at <= step}))
                    repeated += trainings.get(order.id).progress.step - step
            lab.start()
            done = lab.until(order, lambda found: found.state == "succeeded", "the training has ended", seconds=600)
            final = losses(lab.folder / "trained/cats/metrics.jsonl")
    steps = [step for step, _ in saved]
    assert len(saved) >= kills // 2
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps), "every trainer came further than the one before"
    for step, kept in saved:
        assert list(kept) == [*range(1, step + 1)]
        assert {at: final[at] for at in kept} == kept, "what was saved is never made again"
    assert list(final) == [*range(1, done.progress.steps + 1)]
    log.info("%d kills hit, at the saves %s; %d of %d steps were made again", len(saved), steps, repeated, len(final))
