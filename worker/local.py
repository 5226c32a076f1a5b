"""The same jobs without a server: the engine in the caller's thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from jobs.contract import Job

from .active import ActiveJob, EngineEvent, Finished, activate
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
    active = activate(job, runner, sent=sent)
    for _ in _run(runner, [active]):
        yield active.image_steps / job.image_steps
    yield encode_images(active, runner.checkpoint)


def run_jobs(runner: Runner, jobs: Iterable[tuple[Job, Sequence[Tensor]]]) -> list[list[bytes]]:
    """Makes the pictures of several jobs in shared batches; the PNGs of each.

    Args:
        jobs: each with the pictures that come with it. Otherwise as `run_job`.
    """
    active = [activate(job, runner, sent=sent) for job, sent in jobs]
    for _ in _run(runner, active):
        pass
    return [encode_images(each, runner.checkpoint) for each in active]


def _run(runner: Runner, jobs: Sequence[ActiveJob]) -> Iterator[None]:
    """Steps jobs until all are done; yields after each step."""
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    for active in jobs:
        engine.submit(active)
    done = 0
    while done < len(jobs):
        engine.step()
        yield
        for event in events:
            if isinstance(event, Finished):
                if event.error is not None:
                    raise event.error
                done += 1
        events.clear()
