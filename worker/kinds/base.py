"""The worker's part of a kind of job: how its trajectories begin, and how their ends become the answer."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.model.ddrm import Restoration
from difuso.model.memory import upload
from difuso.model.noise import image_generator
from difuso.model.plans.plan import Plan
from difuso.model.shape import Shape

from ..stepping.runner import Runner
from ..stepping.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class JobStart:
    """The trajectories of a job, at their first rows."""

    answers: list[Trajectory]  # the trajectories that become images
    waited_for: Sequence[Trajectory] = ()  # the trajectories that have to end first, if there are any
    begin_answers: Callable[[], None] = lambda: None  # starts the answers from the ends of those; may be called again
    upscaler: Runner | None = None  # the model that steps the answers, if it is not the job's

    def begin_if_ready(self) -> None:
        """Starts the answers once the trajectories that they wait for are finished. May be called again."""
        if all(each.finished for each in self.waited_for):
            self.begin_answers()

    @property
    def drawn(self) -> Sequence[Trajectory]:
        """The trajectories of the job's model that show its images: in a cascade, those that are enlarged."""
        return self.answers if self.upscaler is None else self.waited_for

    @property
    def previewed(self) -> Sequence[Trajectory]:
        """The trajectories that show how far each answer is."""
        return self.answers if self.answers[0].ready else self.drawn

    @property
    def plan(self) -> Plan:
        """The plan that the parameters of the job describe."""
        return self.drawn[0].plan


@dataclass(frozen=True)
class WorkerKind:
    """The worker's part of a kind of job."""

    # makes the trajectories of a job from its uploaded images, each of shape (C, H, W) in [-1, 1]. Raises PlanError if
    # the model has no such run, and JobUnreadable if the images do not fit.
    begin: Callable[[Job, Runner, Sequence[Tensor]], JobStart]
    # makes the images of the answer from the final x of the answers, each of shape (C, H, W)
    finish: Callable[[Job, list[Tensor]], list[Tensor]] = lambda job, images: images


def expect(images: Sequence[Tensor], *shapes: tuple[int, ...]) -> Sequence[Tensor]:
    """Returns the uploaded images, with planes separated (`model.images`); JobUnreadable if number or shapes differ."""
    found = tuple(tuple(image.shape) for image in images)
    kept = tuple((c // Shape(c, h, w).planes, Shape(c, h, w).planes * h, w) for c, h, w in shapes)
    if found != kept:
        raise JobUnreadable(f"the uploaded images must have the shapes {kept}, not {found}")
    return [image.reshape(shape) for image, shape in zip(images, shapes, strict=True)]


def plan_of(job: Job, runner: Runner, *, start: int | None = None) -> Plan:
    """Makes the plan of the job's sampling run; see `ModelConfig.plan_of`."""
    checkpoint = runner.checkpoint
    return checkpoint.config.plan_of(checkpoint.schedule, job.params, start=start)


def generators_of(job: Job) -> list[torch.Generator]:
    """Makes the generator of each image."""
    return [image_generator(job.params.seed_of(index)) for index in range(job.params.n)]


def trajectories(
    runner: Runner,
    plan: Plan,
    generators: list[torch.Generator],
    starts: Iterable[Tensor],
    *,
    restoration: Restoration | None = None,
    ready: bool = True,
) -> list[Trajectory]:
    """Makes a trajectory at its first row for each generator and starting x_t, shape (C, H, W)."""
    beginnings = zip(generators, (upload(start.float(), runner.device) for start in starts), strict=True)
    return [Trajectory(plan, generator, x, x, x, 0, restoration, ready) for generator, x in beginnings]
