"""The first act of a job whose picture comes without conditions: it finds those of the model's nearest example."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.nearest import Probe, nearest
from difuso.model.noise import image_generator

from .job_start import JobStart, Seen
from .stepping.inputs import add_inputs, inputs_of_image
from .stepping.runner import Runner
from .stepping.trajectory import Moment, Trajectory


@dataclass(eq=False, kw_only=True)
class Probing(Trajectory):
    """One prediction of a picture, by a value of one condition; its last x is the squared error, shape (1, 1, 1)."""

    seen: Seen

    def outcome(
        self, x: Tensor, x0: Tensor, z: Tensor, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...], tuple[Moment, ...]]:
        error = (self.seen.measure(x0) - self.seen.y).square().mean().reshape(1, 1, 1)
        return error, error, (error,) * 3, ()


def begin_with_probes(job: Job, runner: Runner, start: JobStart, probes: Sequence[Probe]) -> JobStart:
    """Lets the answers of a job wait for its probes, and then begin with the conditions that these have found."""
    config, seen = runner.checkpoint.config, start.seen
    assert seen is not None
    settings = config.settle(start=seen.timestep, steps=1, sampler="ddim", eta=0.0)
    plan = config.plan_of(runner.checkpoint.schedule, settings, start=seen.timestep)
    x, generator = seen.x, image_generator(0)  # which draws nothing
    tries = [Probing(plan, generator, x, x, (x, x, x), seen=seen) for _ in probes]
    for each, (name, value) in zip(tries, probes, strict=True):
        each.inputs = inputs_of_image(config, None, {name: value}, runner.device)
    for answer in start.answers:
        answer.ready = False

    def begin_answers() -> None:
        if start.found:
            return
        start.found.update(nearest(config, probes, [float(each.x) for each in tries]))
        for answer in start.answers:
            answer.inputs, answer.ready = {}, True
        add_inputs(job.found_with(start.found).params, config, start.answers, ())

    return replace(start, waited_for=tries, begin_answers=begin_answers)
