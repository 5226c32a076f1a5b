"""How long jobs take that share a batch: the forecast against the turns as they come."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest

from difuso.jobs.contract import Job
from difuso.jobs.params import SamplingParams
from difuso.worker.engine.active import ActiveJob
from difuso.worker.engine.fairness import BACKGROUND_PAUSE, forecast, share_slots
from difuso.worker.job_start import JobStart
from difuso.worker.stepping.runner import Runner, Slowness
from difuso.worker.stepping.trajectory import Trajectory

SLOTS = 8
IMAGES = 24  # so many that any share of the slots is used to the end, nearly
RATE = 80.0  # image-steps a second
RUNNER = cast("Runner", SimpleNamespace(rate=RATE, step_seconds=0.05, slowness=Slowness()))


@dataclass(eq=False)
class Image:
    """A trajectory without a picture."""

    plan: range
    row: int = 0
    ready: bool = True
    cost: int = 1
    weight: int = 1

    @property
    def finished(self) -> bool:
        return self.row == len(self.plan)

    @property
    def left(self) -> int:
        return len(self.plan) - self.row


def start(steps: int, *, n: int = IMAGES, urgency: int = 3) -> ActiveJob:
    params = SamplingParams(n=n, steps=steps, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(
        id=str(uuid.uuid4()),
        model="m",
        params=params,
        urgency=urgency,
        accepted_at=0,
        timeout=1,
    )
    images = cast("list[Trajectory]", [Image(range(steps)) for _ in range(n)])
    return ActiveJob(job, RUNNER, JobStart(images))


def play(jobs: list[ActiveJob]) -> dict[ActiveJob, float]:
    """Steps jobs to their end in full batches; returns when each was done, in seconds."""
    done: dict[ActiveJob, float] = {}
    seconds, turn, left = 0.0, 0, list(jobs)
    while left:
        chosen = share_slots(left, SLOTS, turn)
        for _, trajectory in chosen:
            trajectory.row += 1
        seconds, turn = seconds + len(chosen) / RATE, turn + 1
        done |= {active: seconds for active in left if not active.left}
        left = [active for active in left if active.left]
    return done


@pytest.mark.parametrize("others", [1, 11])
def test_background_jobs_take_turns_beside_others(others: int) -> None:
    """Whatever their number has in common with the length of a pause."""
    waited_for = [start(10_000, n=1) for _ in range(SLOTS - 2)]
    background = [start(10_000, n=1, urgency=7) for _ in range(others)]
    since, shares = BACKGROUND_PAUSE, Counter[ActiveJob]()
    for turn in range(11 * 6 * others):
        chosen = [active for active, _ in share_slots([*waited_for, *background], SLOTS, turn, since_background=since)]
        shared = [active for active in chosen if active in background]
        since = 0 if shared else since + 1
        shares.update(shared)
    assert len(shares) == others
    assert max(shares.values()) - min(shares.values()) <= 2


@pytest.mark.parametrize(
    "orders",
    [
        [(3, 25)],
        [(3, 30), (3, 30)],
        [(3, 10), (3, 100)],
        [(3, 10), (3, 20), (3, 30), (3, 40)],
        [(2, 20), (3, 20)],
        [(5, 40), (3, 10), (1, 20), (3, 30)],
    ],
)
def test_jobs_are_done_when_the_forecast_says(orders: list[tuple[int, int]]) -> None:
    jobs = [start(steps, urgency=urgency) for urgency, steps in orders]
    expected = forecast(jobs)
    assert play(jobs) == pytest.approx(expected, rel=0.05)


def test_the_forecast_begins_where_a_job_stands() -> None:
    active, other = start(30), start(30)
    for trajectory in active.trajectories:
        trajectory.row = 20
    assert forecast([active, other]) == {active: 480 / RATE, other: (240 + 720) / RATE}


def test_no_image_is_faster_than_alone() -> None:
    active = start(30, n=1)
    assert forecast([active]) == {active: 30 * 0.05}


def test_the_forecast_follows_the_speed_that_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take eight times as long as at warm-up are noticed within a few of them, and forgotten again."""
    monkeypatch.setattr(RUNNER, "slowness", Slowness())
    active = start(30, n=1)
    for _ in range(3):
        RUNNER.slowness.note(0.4, expected=0.05)
    assert forecast([active])[active] == pytest.approx(30 * 0.4)
    for _ in range(100):
        RUNNER.slowness.note(0.05, expected=0.05)
    assert forecast([active])[active] == pytest.approx(30 * 0.05, rel=0.1)
