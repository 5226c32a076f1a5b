"""Jobs that draw images from an image, by a model that enlarges."""

from collections.abc import Sequence

from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.kinds.upscale import Upscaling
from difuso.model.noise import draw_noise

from ..stepping.inputs import enlarged_inputs
from ..stepping.runner import Runner
from .base import JobStart, WorkerKind, expect, generators_of, plan_of, trajectories


def begin(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    assert isinstance(job.task, Upscaling)
    config = runner.checkpoint.config
    assert config.small_shape is not None
    (image,) = expect(images, config.small_shape)
    plan, generators = plan_of(job, runner), generators_of(job)
    starts = draw_noise(generators, config.shape)
    begun = trajectories(runner, plan, generators, starts)
    for trajectory, noise in zip(begun, draw_noise(generators, config.small_shape), strict=True):
        trajectory.inputs = enlarged_inputs(image, job.task.augmentation, noise, trajectory.x)
    return JobStart(begun)


KIND = WorkerKind(begin)
