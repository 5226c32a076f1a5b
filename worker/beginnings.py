"""Where the trajectories of each kind of job begin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jobs.contract import Job
from jobs.errors import JobUnreadable
from jobs.levels import GREY_LEVEL
from jobs.tasks import Denoising, Generation, Interpolation, Restoring
from model.checkpoint import Checkpoint
from model.ddrm import make_restoration
from model.forward_process import enter, q_sample
from model.mixing import mix, slerp
from model.operators import (
    Blur,
    Colorization,
    Inpainting,
    Operator,
    SuperResolution,
    gaussian_kernel,
    uniform_kernel,
)
from model.plans.inversion import make_inversion
from model.plans.noise_level import noise_level
from model.plans.plan import Plan
from model.rng import draw_noise, image_generator

from .runner import Runner
from .trajectory import Trajectory, new_trajectories


@dataclass(frozen=True, eq=False)
class Succession:
    """Trajectories that begin between the ends of two others.

    Attributes:
        parents: the two.
        heirs: what begins then.
        shares: of the second parent in each heir.
    """

    parents: list[Trajectory]
    heirs: list[Trajectory]
    shares: tuple[float, ...]

    def settle(self) -> None:
        """Lets the heirs begin once both parents have ended."""
        if all(parent.finished for parent in self.parents):
            first, second = self.parents
            for heir, share in zip(self.heirs, self.shares, strict=True):
                if not heir.ready:
                    heir.x, heir.ready = slerp(first.x, second.x, share), True


@dataclass(frozen=True, eq=False)
class Beginning:
    """The trajectories of a job, at their first rows.

    Attributes:
        answers: those that become pictures.
        succession: where they wait for others.
    """

    answers: list[Trajectory]
    succession: Succession | None = None


def begin(job: Job, runner: Runner, sent: Sequence[Tensor]) -> Beginning:
    """Makes the trajectories of a job.

    Args:
        sent: the pictures that came with it, each of shape (C, H, W) in [-1, 1].

    Raises:
        PlanError: if the model has no such run.
        JobUnreadable: if pictures are missing, or do not fit the task.
    """
    shape = runner.checkpoint.config.shape
    match job.task:
        case Generation():
            return Beginning(_generate(job, runner))
        case Interpolation(mode="ddpm") as task:
            return Beginning(_mixed(job, task, runner, *_expect(sent, shape, shape)))
        case Interpolation() as task:
            return _inverted(job, task, runner, *_expect(sent, shape, shape))
        case Denoising() as task:
            return Beginning(_denoised(job, task, runner, *_expect(sent, shape)))
        case Restoring() as task:
            return Beginning(_restored(job, task, runner, sent))


def _generate(job: Job, runner: Runner) -> list[Trajectory]:
    plan, generators = _plan(job, runner.checkpoint), _generators(job)
    return _trajectories(job, runner, plan, generators, draw_noise(generators, runner.checkpoint.config.shape))


def _mixed(job: Job, task: Interpolation, runner: Runner, a: Tensor, b: Tensor) -> list[Trajectory]:
    """Both pictures are noised, mixed, and the mixture is drawn to its end (Ho et al. 2020, section 4.4).

    One seed for all shares, so that the pictures change smoothly. Independent noises leave the mixture with less than
    the network expects at this timestep, which `rescaled` puts right.
    """
    plan = _plan(job, runner.checkpoint, start=task.depth)
    generators = [image_generator(job.params.seed) for _ in task.shares]
    shape = runner.checkpoint.config.shape
    noise_a = draw_noise(generators, shape)
    noise_b = noise_a if task.noise == "shared" else draw_noise(generators, shape)
    abar = float(runner.checkpoint.schedule.alphas_cumprod[task.depth])
    starts = []
    for i, share in enumerate(task.shares):
        noise = mix(noise_a[i], noise_b[i], share)
        if task.noise == "rescaled":
            noise = noise / math.hypot(1.0 - share, share)
        starts.append(math.sqrt(abar) * mix(a, b, share) + math.sqrt(1.0 - abar) * noise)
    return _trajectories(job, runner, plan, generators, starts)


def _inverted(job: Job, task: Interpolation, runner: Runner, a: Tensor, b: Tensor) -> Beginning:
    """Both pictures are led back to their noise; the answers are drawn from the arc between (Song et al. 2021)."""
    checkpoint, params = runner.checkpoint, job.params
    inversion = make_inversion(
        checkpoint.schedule,
        steps=params.steps,
        spacing=params.spacing,
        prediction=checkpoint.config.prediction,
        start=task.depth,
    )
    plan = _plan(job, checkpoint, start=task.depth)
    generators = [image_generator(params.seed) for _ in task.shares]
    parents = _trajectories(job, runner, inversion, [image_generator(params.seed) for _ in "ab"], [a, b])
    heirs = _trajectories(job, runner, plan, generators, [torch.zeros_like(a) for _ in task.shares], ready=False)
    return Beginning(heirs, Succession(parents, heirs, task.shares))


def _denoised(job: Job, task: Denoising, runner: Runner, picture: Tensor) -> list[Trajectory]:
    """A noisy picture enters where the process is as noisy; a clean one is noised first, and drawn anew from there."""
    schedule = runner.checkpoint.schedule
    plan, generators = _plan(job, runner.checkpoint, start=task.depth), _generators(job)
    noise = draw_noise(generators, runner.checkpoint.config.shape)
    if task.sigma is None:
        starts = q_sample(schedule, picture.expand_as(noise), torch.full((len(noise),), task.depth), noise)
        return _trajectories(job, runner, plan, generators, starts)
    level = noise_level(schedule, task.sigma * GREY_LEVEL, task.depth)
    if task.mode == "mmse":
        noise = torch.zeros_like(noise)  # a single guess is better without more noise than there is
    return _trajectories(job, runner, plan, generators, [enter(level, picture, z) for z in noise])


def _restored(job: Job, task: Restoring, runner: Runner, sent: Sequence[Tensor]) -> list[Trajectory]:
    """Pictures that agree with what was measured; see `model.ddrm`."""
    checkpoint, params = runner.checkpoint, job.params
    channels, height, width = shape = checkpoint.config.shape
    if task.task == "inpaint":
        y, mask = _expect(sent, shape, (1, height, width))
        operator: Operator = Inpainting(mask[0] > 0, channels)
    else:
        operator = _operator(task, shape)
        (y,) = _expect(sent, tuple(operator.apply(torch.zeros(shape)).shape))
    restoration = make_restoration(
        checkpoint.schedule,
        operator,
        y,
        sigma=task.sigma * GREY_LEVEL,
        steps=params.steps,
        spacing=params.spacing,
        prediction=checkpoint.config.prediction,
        clipping=checkpoint.config.clip.with_mode(params.clip),
    )
    generators = _generators(job)
    starts = [restoration.begin(z) for z in draw_noise(generators, checkpoint.config.shape)]
    return _trajectories(job, runner, restoration.plan, generators, starts, restoration=restoration)


def _operator(task: Restoring, shape: tuple[int, int, int]) -> Operator:
    if task.task == "superres":
        return SuperResolution(task.factor, shape)
    if task.task == "colorize":
        return Colorization(shape)
    return Blur(gaussian_kernel(task.width) if task.blur == "gaussian" else uniform_kernel(round(task.width)), shape)


def _plan(job: Job, checkpoint: Checkpoint, *, start: int | None = None) -> Plan:
    params = job.params
    return checkpoint.config.plan(
        checkpoint.schedule,
        sampler=params.sampler,
        steps=params.steps,
        spacing=params.spacing,
        eta=params.eta,
        variance=params.variance,
        clip=params.clip,
        start=start,
        classifier_scale=params.classifier_scale,
    )


def _generators(job: Job) -> list[torch.Generator]:
    return [image_generator(job.params.seed, index) for index in range(job.params.n)]


def _trajectories(
    job: Job, runner: Runner, plan: Plan, generators: list[torch.Generator], starts: Iterable[Tensor], **more: Any
) -> list[Trajectory]:
    return new_trajectories(
        plan,
        runner.table(plan),
        generators,
        starts,
        label=job.params.label,
        guidance_scale=job.params.guidance_scale,
        **more,
    )


def _expect(sent: Sequence[Tensor], *shapes: tuple[int, ...]) -> Sequence[Tensor]:
    found = tuple(tuple(picture.shape) for picture in sent)
    if found != shapes:
        raise JobUnreadable(f"the job came with pictures of {found}, not {shapes}")
    return sent
