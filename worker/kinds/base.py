"""The worker's part of a kind of job: how its trajectories begin, and how their ends become the answer."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from jobs.contract import Job
from jobs.errors import JobUnreadable
from model.ddrm import Restoration
from model.noise import image_generator, slerp
from model.plans.plan import Plan
from model.shape import Shape
from model.transfers import upload

from ..stepping.runner import Runner
from ..stepping.trajectory import Trajectory


class Predecessors(Protocol):
    """Trajectories that the answers wait for; those `previewed` show how far each answer is."""

    @property
    def trajectories(self) -> list[Trajectory]: ...
    @property
    def previewed(self) -> list[Trajectory]: ...

    def begin_if_ready(self) -> None:
        """Starts the answers if all of these trajectories are finished. May be called again."""


@dataclass(frozen=True, eq=False)
class BetweenEnds:
    """Answers that begin between the ends of two other trajectories."""

    # first, second: the two trajectories
    first: Trajectory
    second: Trajectory
    answers: list[Trajectory]  # the trajectories that begin once both are finished
    shares: tuple[float, ...]  # share of the second end in the start of each answer, 0..1

    @property
    def trajectories(self) -> list[Trajectory]:
        return [self.first, self.second]

    @property
    def previewed(self) -> list[Trajectory]:
        return self.answers

    def begin_if_ready(self) -> None:
        if not (self.first.finished and self.second.finished):
            return
        for answer, share in zip(self.answers, self.shares, strict=True):
            if not answer.ready:
                answer.x, answer.ready = slerp(self.first.x, self.second.x, share), True


@dataclass(frozen=True, eq=False)
class JobStart:
    """The trajectories of a job, at their first rows."""

    answers: list[Trajectory]  # the trajectories that become images
    after: Predecessors | None = None  # the trajectories that the answers wait for, if there are any
    upscaler: Runner | None = None  # the model that steps the answers, if it is not the job's

    @property
    def waited_for(self) -> list[Trajectory]:
        """The trajectories that the answers wait for."""
        return [] if self.after is None else self.after.trajectories

    @property
    def previewed(self) -> list[Trajectory]:
        """The trajectories that show how far each answer is."""
        return self.answers if self.after is None else self.after.previewed

    @property
    def plan(self) -> Plan:
        """The plan that the parameters of the job describe."""
        return (self.answers if self.upscaler is None else self.waited_for)[0].plan


@dataclass(frozen=True)
class WorkerKind:
    """The worker's part of a kind of job."""

    # makes the trajectories of a job from its uploaded images, each of shape (C, H, W) in [-1, 1]. Raises PlanError if
    # the model has no such run, and JobUnreadable if the images do not fit.
    begin: Callable[[Job, Runner, Sequence[Tensor]], JobStart]
    # makes the images of the answer from the final x of the answers, each of shape (C, H, W)
    finish: Callable[[Job, list[Tensor]], list[Tensor]] = lambda job, images: images


def expect(images: Sequence[Tensor], *shapes: tuple[int, ...]) -> Sequence[Tensor]:
    """Returns the uploaded images, with planes parted (`model.images`); JobUnreadable if number or shapes differ."""
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
    job: Job,
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
