"""Whose turn it is where only one model fits and all have jobs, by a clock of the test."""

from __future__ import annotations

import time
import uuid
from itertools import groupby
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from difuso.jobs.contract import Job
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis.queue import JobQueue
from difuso.worker.engine.served_models import Folder, Models
from difuso.worker.queue import demand
from difuso.worker.queue.claims import Claims
from difuso.worker.queue.demand import LEAST_PATIENCE, Demand

TICK = 0.5  # seconds


class OneModel:
    """A worker with room for one of the models `a`, `b` and `c`. Each has a job for ever."""

    def __init__(self, redis_url: str, monkeypatch: pytest.MonkeyPatch, **urgency: int) -> None:
        self.client = redis.Redis.from_url(redis_url)
        self.now, self.drew = 0.0, list[str]()
        monkeypatch.setattr(demand, "time", SimpleNamespace(monotonic=lambda: self.now))
        params = SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)
        for model, level in urgency.items():
            job = Job(
                id=str(uuid.uuid4()),
                model=model,
                urgency=level,
                params=params,
                accepted_at=time.time(),
                timeout=60,
            )
            assert JobQueue(self.client, result_ttl=60).submit(job, request_hash="")
        folders = {model: Folder((), f"{model}@", bytes=10) for model in urgency}
        self.models = Models(folders=folders, seen=dict.fromkeys(folders, ()), bound=10)
        self.is_busy = False
        self.claims = Claims(self.client, {}, "w")
        self.demand = Demand(self.client, cast(Any, self), self.claims, "w")

    def load(self, ref: str) -> None:
        self._serve({ref: SimpleNamespace(bytes=10, used_at=self.now, slots=1)})

    def unload(self, refs: list[str]) -> None:
        self._serve({ref: each for ref, each in self.models.runners.items() if ref not in refs})

    def _serve(self, runners: dict[str, Any]) -> None:
        self.models = Models(runners, self.models.folders, self.models.seen, bound=10)
        self.claims.serve(runners)

    def pass_time(self, seconds: float) -> None:
        """Lets the worker look at each tick, and notes what is loaded then."""
        until = self.now + seconds
        while self.now < until:
            self.demand.look([], [])
            self.demand.look([], [])  # it loads what it has made room for
            self.drew += self.models.runners
            self.now += TICK


def test_each_model_has_its_turn_though_others_wait_for_theirs(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = OneModel(redis_url, monkeypatch, a=3, b=3, c=3)
    one.pass_time(7 * LEAST_PATIENCE)
    turns = [(ref, len([*ticks])) for ref, ticks in groupby(one.drew)]
    assert [ref for ref, _ in turns[:6]] == 2 * ["a@", "b@", "c@"]
    assert min(ticks for _, ticks in turns[:6]) >= LEAST_PATIENCE / TICK


def test_urgent_models_that_take_turns_do_not_starve_another(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = OneModel(redis_url, monkeypatch, a=0, b=0, c=3)
    one.pass_time(30 * LEAST_PATIENCE)
    shares = {ref: one.drew.count(ref) / len(one.drew) for ref in ("a@", "b@", "c@")}
    assert 0.1 < shares["c@"] < shares["b@"]


def test_a_model_that_was_to_give_way_draws_on_when_the_other_is_removed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = OneModel(redis_url, monkeypatch, a=3, b=3)
    one.pass_time(1)
    running = cast(Any, SimpleNamespace(queue=SimpleNamespace(ref="a@"), record=None))
    monkeypatch.setattr(demand, "known_job", lambda record: None)
    one.now = LEAST_PATIENCE + 1
    one.demand.look([running], [])
    assert not one.claims.open_queues, "a gives way"
    one.models = Models(one.models.runners, one.models.folders, {"a": ()}, bound=10)
    one.demand.look([], [])
    assert {queue.ref for queue in one.claims.open_queues} == {"a@"}
