"""The worker's part of a cascade: the ends of a job's trajectories become the conditions of others."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from jobs.cascade import enlarging_seed
from jobs.contract import Job
from jobs.errors import JobUnreadable
from model.images import from_levels, to_uint8
from model.noise import draw_noise, image_generator
from model.transfers import upload

from ..kinds.base import JobStart
from ..stepping.condition import make_condition, told_of
from ..stepping.runner import Runner
from ..stepping.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class FirstStage:
    """The trajectories whose ends other trajectories enlarge, each that of the same index."""

    trajectories: list[Trajectory]  # those of the first stage
    answers: list[Trajectory]  # those of the second stage, which begin once all of the first are finished
    noises: Sequence[Tensor]  # the noise that is added to the condition of each answer, shape (c, h, w)
    level: float  # the standard deviation of that noise, 0..1

    @property
    def previewed(self) -> list[Trajectory]:
        return self.answers if self.answers[0].ready else self.trajectories

    def begin_if_ready(self) -> None:
        if not all(each.finished for each in self.trajectories):
            return
        for first, answer, noise in zip(self.trajectories, self.answers, self.noises, strict=True):
            if answer.condition is None:  # also where a snapshot says that the answer has begun
                # As a PNG of the small image would have it, so that it can be sent to /upscale instead.
                image = from_levels(to_uint8(first.x[None].cpu()))[0]
                answer.condition, answer.ready = make_condition(image, self.level, noise, answer.x), True


def begin_cascade(job: Job, first: JobStart, upscaler: Runner | None) -> JobStart:
    """Adds the second stage to the trajectories of the first.

    Raises:
        JobUnreadable: if this worker does not have the model, or it does not enlarge such images.
        PlanError: if it has no such run.
    """
    stage = job.task.second_stage
    assert stage is not None
    if upscaler is None:
        raise JobUnreadable(f"this worker has no model {stage.model}")
    checkpoint, shape = upscaler.checkpoint, first.answers[0].x.shape
    config = checkpoint.config
    if config.condition_shape != tuple(shape) or not config.accepts(None):
        raise JobUnreadable(f"{stage.model} does not enlarge images of {tuple(shape)}")
    if job.trace:
        raise JobUnreadable("a cascade keeps no trace")
    plan = config.plan_of(checkpoint.schedule, stage.settings)
    generators = [image_generator(enlarging_seed(job.params.seed_of(index))) for index in range(job.params.n)]
    answers = [
        Trajectory(plan, generator, x, x, x, ready=False, weight=stage.weight)
        for generator, x in zip(generators, upload(draw_noise(generators, config.shape), upscaler.device), strict=True)
    ]
    for answer in answers:
        answer.told = told_of(config, None, {}, upscaler.device)
    noises = list(draw_noise(generators, config.condition_shape))
    return JobStart(answers, FirstStage(first.answers, answers, noises, stage.augmentation), upscaler)
