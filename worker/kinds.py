"""How the jobs of each kind begin: their trajectories; and how the ends of these become the answer."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.kinds.denoise import Denoising
from difuso.jobs.kinds.interpolate import Interpolation
from difuso.jobs.kinds.restore import Restoring
from difuso.jobs.kinds.upscale import Upscaling
from difuso.jobs.nearest import least_depth
from difuso.model.ddrm import Restoration, make_restoration
from difuso.model.memory import upload
from difuso.model.noise import Arc, Source, draw_noise, enter, image_generator, mix, q_sample, slerp
from difuso.model.operators import (
    Blur,
    Colorization,
    Inpainting,
    Operator,
    SuperResolution,
    gaussian_kernel,
    uniform_kernel,
)
from difuso.model.plans.inversion import make_inversion
from difuso.model.plans.noise_level import GREY_LEVEL, noise_level
from difuso.model.plans.plan import Plan
from difuso.model.plans.schedule import NoiseSchedule
from difuso.model.shape import Shape

from .job_start import JobStart, Seen
from .stepping.inputs import enlarged_inputs
from .stepping.runner import Runner
from .stepping.trajectory import Trajectory


@dataclass(frozen=True)
class WorkerKind:
    """The worker's part of a kind of job."""

    # makes the trajectories of a job from its uploaded images, each of shape (C, H, W) in [-1, 1], or from noise, each
    # of shape (H, W, C). Raises PlanError if
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
    generators: Sequence[Source],
    starts: Iterable[Tensor],
    *,
    restoration: Restoration | None = None,
    ready: bool = True,
) -> list[Trajectory]:
    """Makes a trajectory at its first row for each generator and starting x_t, shape (C, H, W)."""
    beginnings = zip(generators, (upload(start.float(), runner.device) for start in starts), strict=True)
    return [Trajectory(plan, generator, x, x, (x, x, x), 0, restoration, ready) for generator, x in beginnings]


def _generate(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    """Draws images from pure noise: that of the request, or the first draw of each seed, which is made anyway."""
    plan, generators, shape = plan_of(job, runner), generators_of(job), runner.checkpoint.config.shape
    drawn = draw_noise(generators, shape)
    if len(images) not in (0, 1, job.params.n) or any(tuple(noise.shape) != shape.hwc for noise in images):
        raise JobUnreadable(f"the noise must be that of one image, or of all {job.params.n}, of shape {shape.hwc}")
    starts = [images[index % len(images)].permute(2, 0, 1) for index in range(job.params.n)] if images else drawn
    return JobStart(trajectories(runner, plan, generators, starts))


def _upscale(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    """Draws images from an image, by a model that enlarges."""
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


def _denoise(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
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
    answers = trajectories(runner, plan, generators, starts)
    seen = Seen(task.depth, answers[0].x, upload(image, runner.device)) if task.probes else None
    return JobStart(answers, seen=seen)


def _averaged(job: Job, images: list[Tensor]) -> list[Tensor]:
    assert isinstance(job.task, Denoising)
    return [torch.stack(images).mean(dim=0)] if job.task.average else images


def _restore(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
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
    noise = draw_noise(generators, checkpoint.config.shape)
    starts = [restoration.begin(z) for z in noise]
    restoration = restoration.to(runner.device)
    seen = _seen(checkpoint.schedule, restoration, upload(noise[0], runner.device)) if task.probes else None
    return JobStart(trajectories(runner, restoration.plan, generators, starts, restoration=restoration), seen=seen)


def _seen(schedule: NoiseSchedule, restoration: Restoration, noise: Tensor) -> Seen:
    """Returns what is known of the restored picture, with 0 for the rest, at the level where pictures are probed."""
    operator, is_measured = restoration.operator, torch.isfinite(restoration.noise)
    known = operator.from_coordinates(restoration.measured)
    depth = min(least_depth(schedule), schedule.num_train_timesteps - 1)
    x = q_sample(schedule, known[None], torch.tensor([depth]), noise[None])[0]
    return Seen(depth, x, known, lambda image: operator.from_coordinates(operator.to_coordinates(image) * is_measured))


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


def _interpolate(job: Job, runner: Runner, images: Sequence[Tensor]) -> JobStart:
    """Interpolates between two images, or between two seeds."""
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

    They are the noises of `generate`, also those that a sampler draws on the way, so the shares 0 and 1 give its images
    of these seeds.
    """
    arcs = [Arc(seeds, share) for share in shares]
    starts = [*draw_noise(arcs, runner.checkpoint.config.shape)]
    return JobStart(trajectories(runner, plan_of(job, runner), arcs, starts))


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


WORKER_KINDS = {
    "denoise": WorkerKind(_denoise, _averaged),
    "generate": WorkerKind(_generate),
    "interpolate": WorkerKind(_interpolate),
    "restore": WorkerKind(_restore),
    "upscale": WorkerKind(_upscale),
}
"""The kinds by the names of `jobs.kinds`."""
