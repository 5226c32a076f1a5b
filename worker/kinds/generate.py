"""Jobs that draw images from pure noise."""

from collections.abc import Sequence

from torch import Tensor

from difuso.jobs.contract import Job
from difuso.model.noise import draw_noise

from ..stepping.runner import Runner
from .base import JobStart, WorkerKind, generators_of, plan_of, trajectories


def begin(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    plan, generators = plan_of(job, runner), generators_of(job)
    noise = draw_noise(generators, runner.checkpoint.config.shape)
    return JobStart(trajectories(runner, plan, generators, noise))


KIND = WorkerKind(begin)
