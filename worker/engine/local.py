"""Runs jobs without a server: the engine steps in the caller's thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.images.npz import Array

from ..stepping.runner import Runner
from .active import EngineEvent, Finished, activate
from .engine import StepEngine
from .results import encode_images, trace_arrays


@dataclass(frozen=True, eq=False)
class Drawn:
    """The result of a job: its images as PNGs, and the moments that it kept; see `trace_arrays`."""

    pngs: list[bytes]
    trace: dict[str, Array]


def run_job(
    runner: Runner,
    job: Job,
    sent: Sequence[Tensor] = (),
    *,
    upscaler: Runner | None = None,
    show: Callable[[float], object] = lambda share: None,
) -> Drawn:
    """Draws a job's images; calls `show` with the share done (0..1) after each step.

    The other arguments are those of `activate`.

    Raises:
        PlanError: if the model has no such run.
        NonFiniteSample: if the network produced NaN or infinity.
    """
    active, events = activate(job, runner, upscaler=upscaler, sent=sent), list[EngineEvent]()
    engine = StepEngine(events.append)
    engine.submit(active)
    while not events or not isinstance(events[-1], Finished):
        engine.step()
        show(active.image_steps / (active.image_steps + active.left))
    if events[-1].error is not None:
        raise events[-1].error
    return Drawn(encode_images(active), trace_arrays(active))
