"""Runs jobs without a server: the engine steps in the caller's thread."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.images.npz import Array

from ..stepping.runner import Runner
from .active import ActiveJob, EngineEvent, Finished, activate
from .engine import StepEngine
from .results import encode_images, trace_arrays


@dataclass(frozen=True, eq=False)
class Drawn:
    """The result of a job: its images as PNGs, and the moments that it kept; see `trace_arrays`."""

    pngs: list[bytes]
    trace: dict[str, Array]


def run_job(
    runner: Runner, job: Job, sent: Sequence[Tensor] = (), *, upscaler: Runner | None = None
) -> Iterator[float | Drawn]:
    """Draws a job's images; yields the share done (0..1) after each step, and at the end the result.

    The arguments are those of `activate`.

    Raises:
        PlanError: if the model has no such run.
        NonFiniteSample: if the network produced NaN or infinity.
    """
    active = activate(job, runner, upscaler=upscaler, sent=sent)
    for _ in _run([active]):
        yield active.image_steps / (active.image_steps + active.left)
    yield Drawn(encode_images(active), trace_arrays(active))


def run_jobs(runner: Runner, jobs: Iterable[tuple[Job, Sequence[Tensor]]]) -> list[list[bytes]]:
    """Draws the images of several jobs, each with its uploaded images, in shared batches; returns the PNGs of each."""
    active = [activate(job, runner, sent=sent) for job, sent in jobs]
    for _ in _run(active):
        pass
    return [encode_images(each) for each in active]


def _run(jobs: Sequence[ActiveJob]) -> Iterator[None]:
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
