"""Jobs that remove the noise of an image, or redraw a clean image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.kinds.denoise import Denoising
from difuso.model.noise import draw_noise, enter, q_sample
from difuso.model.plans.noise_level import GREY_LEVEL, noise_level

from ..stepping.runner import Runner
from .base import JobStart, WorkerKind, expect, generators_of, plan_of, trajectories


def begin(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    """Starts a noisy image at the timestep that is as noisy. A clean image is noised first, then redrawn."""
    task = job.task
    assert isinstance(task, Denoising)
    schedule, shape = runner.checkpoint.schedule, runner.checkpoint.config.shape
    (image,) = expect(images, shape)
    plan, generators = plan_of(job, runner, start=task.depth), generators_of(job)
    noise = draw_noise(generators, shape)
    if task.sigma is None:
        starts = q_sample(schedule, image.expand_as(noise), torch.full((len(noise),), task.depth), noise)
    else:
        level = noise_level(schedule, task.sigma * GREY_LEVEL, task.depth)
        if task.mode == "mmse":
            noise = torch.zeros_like(noise)  # added noise would only make a single estimate worse
        starts = torch.stack([enter(level, image, z) for z in noise])
    return JobStart(trajectories(runner, plan, generators, starts))


def finish(job: Job, images: list[Tensor]) -> list[Tensor]:
    assert isinstance(job.task, Denoising)
    return [torch.stack(images).mean(dim=0)] if job.task.average else images


KIND = WorkerKind(begin, finish)
