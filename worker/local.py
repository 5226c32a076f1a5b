"""The same jobs without a server: the engine in the caller's thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from jobs.contract import Job

from .active import EngineEvent, Finished, activate
from .engine import StepEngine
from .results import encode_images
from .runner import Runner


def run_job(runner: Runner, job: Job, sent: Sequence[Tensor] = ()) -> Iterator[float | list[bytes]]:
    """Makes a job's pictures; yields the share done after each step, and at last the PNGs.

    Args:
        sent: the pictures that come with it, each of shape (C, H, W) in [-1, 1].

    Raises:
        PlanError: if the model has no such run.
        NonFiniteSample: if the network produced NaN or infinity.
    """
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    active = activate(job, runner, sent=sent)
    engine.submit(active)
    finished = None
    while finished is None:
        engine.step()
        yield active.image_steps / job.image_steps
        finished = next((event for event in events if isinstance(event, Finished)), None)
        events.clear()
    if finished.error is not None:
        raise finished.error
    yield encode_images(active, runner.checkpoint)
