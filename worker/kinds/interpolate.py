"""Jobs that interpolate between two images, or between two seeds."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.kinds.interpolate import Interpolation
from difuso.model.noise import draw_noise, image_generator, mix, slerp
from difuso.model.plans.inversion import make_inversion

from ..stepping.runner import Runner
from .base import JobStart, WorkerKind, expect, plan_of, trajectories


def begin(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    assert isinstance(job.task, Interpolation)
    shape = runner.checkpoint.config.shape
    if job.task.seeds is not None:
        expect(images)
        return _between_seeds(job, job.task.shares, job.task.seeds, runner)
    a, b = expect(images, shape, shape)
    return (_mixed if job.task.mode == "ddpm" else _inverted)(job, job.task, runner, a, b)


def _mixed(job: Job, task: Interpolation, runner: Runner, a: Tensor, b: Tensor) -> JobStart:
    """Noises and mixes the two images, and draws images from the mixture (Ho et al. 2020, section 4.4).

    All shares have the same seed, so that the images change smoothly. A mixture of independent noises has a smaller
    variance than the network expects at this timestep; `rescaled` corrects that.
    """
    plan = plan_of(job, runner, start=task.depth)
    generators = [image_generator(job.params.seed_of(0)) for _ in task.shares]
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
    return JobStart(trajectories(runner, plan, generators, starts))


def _between_seeds(job: Job, shares: Sequence[float], seeds: tuple[int, int], runner: Runner) -> JobStart:
    """Draws images from the arc between the noises of two seeds (Song et al. 2021, section 5.3).

    They are the noises of `generate`, so the shares 0 and 1 give its images of these seeds. No sampler of these jobs
    draws noise of its own.
    """
    first, second = draw_noise([image_generator(seed) for seed in seeds], runner.checkpoint.config.shape)
    starts = [slerp(first, second, share) for share in shares]
    generators = [image_generator(seeds[0]) for _ in shares]
    return JobStart(trajectories(runner, plan_of(job, runner), generators, starts))


def _inverted(job: Job, task: Interpolation, runner: Runner, a: Tensor, b: Tensor) -> JobStart:
    """Inverts the two images to noise; the answers are drawn from the arc between the two noises (Song et al. 2021)."""
    checkpoint, params = runner.checkpoint, job.params
    inversion = make_inversion(
        checkpoint.schedule,
        steps=params.steps,
        prediction=checkpoint.config.prediction,
        start=task.depth,
        guidance=params.guidance,
    )
    plan = plan_of(job, runner, start=task.depth)
    generators = [image_generator(params.seed_of(0)) for _ in task.shares]
    weak = image_generator(params.seed_of(0))
    noises = [draw_noise([weak], checkpoint.config.shape)[0] for _ in "ab"]
    ends = [inversion.signal * image + inversion.spread * noise for image, noise in zip((a, b), noises, strict=True)]
    first, second = trajectories(runner, inversion.plan, [image_generator(params.seed_of(0)) for _ in ends], ends)
    waiting = trajectories(runner, plan, generators, [torch.zeros_like(a) for _ in task.shares], ready=False)

    def begin_answers() -> None:
        for answer, share in zip(waiting, task.shares, strict=True):
            if not answer.ready:
                answer.x, answer.ready = slerp(first.x, second.x, share), True

    return JobStart(waiting, [first, second], begin_answers)


KIND = WorkerKind(begin)
