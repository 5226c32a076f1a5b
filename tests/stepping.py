"""Jobs in a step engine of their own, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from difuso.jobs.contract import Job, new_job
from difuso.jobs.kinds.base import Prepared, Task
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.moments import Trace
from difuso.jobs.params import SamplingParams
from difuso.worker.engine.active import ActiveJob, EngineEvent, Finished
from difuso.worker.engine.engine import StepEngine
from difuso.worker.engine.local import run_job
from difuso.worker.stepping.runner import Runner
from difuso.worker.stepping.trajectory import encode_snapshot, take_snapshot


def usual_job(task: Task | None = None, *, trace: Trace = (), planes: int = 1, **params: Any) -> Job:
    """A job of a model m: one image of seed 5 in four steps of DDIM, without a task drawn from noise."""
    filled = {"n": 1, "steps": 4, "sampler": "ddim", "spacing": "trailing", "eta": 0.0, "seed": 5} | params
    made = SamplingParams.model_validate(filled)
    return new_job("m", Prepared(made, task or Generation(), trace=trace, planes=planes))


def snapshot_of(active: ActiveJob) -> bytes:
    """What the store would hold of a job now."""
    return encode_snapshot(take_snapshot(active.trajectories), active.run_sha256)


def stepping(*actives: ActiveJob) -> Iterator[list[EngineEvent]]:
    """Steps jobs in common batches until all have ended; yields what the engine says at each step."""
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    for active in actives:
        engine.submit(active)
    ended = 0
    while ended < len(actives):
        engine.step()
        ended += sum(isinstance(event, Finished) for event in events)
        yield events
        events.clear()


def end(*actives: ActiveJob) -> dict[ActiveJob, BaseException | None]:
    """Steps jobs to their end; returns their errors."""
    finished = [event for events in stepping(*actives) for event in events if isinstance(event, Finished)]
    return {event.active: event.error for event in finished}


def run(*actives: ActiveJob) -> None:
    """Steps jobs to their end, without an error."""
    assert set(end(*actives).values()) == {None}


@contextmanager
def calls_of(runner: Runner) -> Iterator[list[int]]:
    """Lists the network calls of a runner, each by its number of rows."""
    calls: list[int] = []
    runner.on_step = lambda rows, bucket, seconds: calls.append(rows)
    yield calls
    runner.on_step = lambda rows, bucket, seconds: None


def drawn(active: ActiveJob) -> Tensor:
    """Returns the images of a job that has ended, (n, C, H, W)."""
    return torch.stack([each.x for each in active.answers])


def pngs_of(runner: Runner, job: Job, sent: Sequence[Tensor] = (), *, upscaler: Runner | None = None) -> list[bytes]:
    """Draws a job as commands do without a server; returns its PNGs."""
    return run_job(runner, job, sent, upscaler=upscaler).pngs
