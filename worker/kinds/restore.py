"""Jobs that undo a known degradation of an image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.kinds.restore import Restoring
from difuso.model.ddrm import make_restoration
from difuso.model.noise import draw_noise
from difuso.model.operators import (
    Blur,
    Colorization,
    Inpainting,
    Operator,
    SuperResolution,
    gaussian_kernel,
    uniform_kernel,
)
from difuso.model.plans.noise_level import GREY_LEVEL

from ..stepping.runner import Runner
from .base import JobStart, WorkerKind, expect, generators_of, trajectories


def begin(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    """Starts images that agree with the measurement; see `model.ddrm`."""
    task = job.task
    assert isinstance(task, Restoring)
    checkpoint, params = runner.checkpoint, job.params
    operator, y = _measured(task, checkpoint.config.shape, images)
    restoration = make_restoration(
        checkpoint.schedule,
        operator,
        y,
        sigma=task.sigma * GREY_LEVEL,
        steps=params.steps,
        spacing=params.spacing,
        prediction=checkpoint.config.prediction,
        clipping=checkpoint.config.clip.with_mode(params.clip),
        guidance=params.guidance,
    )
    generators = generators_of(job)
    starts = [restoration.begin(z) for z in draw_noise(generators, checkpoint.config.shape)]
    restoration = restoration.to(runner.device)
    return JobStart(trajectories(runner, restoration.plan, generators, starts, restoration=restoration))


def _measured(task: Restoring, shape: tuple[int, int, int], images: Sequence[Tensor]) -> tuple[Operator, Tensor]:
    """Returns the degradation, and the uploaded image as its measurement."""
    channels, height, width = shape
    if task.degradation == "inpaint":
        y, mask = expect(images, shape, (1, height, width))
        return Inpainting(mask[0] > 0, channels), y
    if task.degradation == "superres":
        operator: Operator = SuperResolution(task.factor, shape)
    elif task.degradation == "colorize":
        operator = Colorization(shape)
    else:
        kernel = gaussian_kernel(task.width) if task.blur == "gaussian" else uniform_kernel(round(task.width))
        operator = Blur(kernel, shape)
    (y,) = expect(images, tuple(operator.apply(torch.zeros(shape)).shape))
    return operator, y


KIND = WorkerKind(begin)
