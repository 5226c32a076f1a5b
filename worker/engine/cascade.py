"""The worker's part of a cascade: the ends of a job's trajectories become the images that others enlarge."""

from difuso.jobs.cascade import enlarging_seed
from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.model.images import from_levels, to_uint8
from difuso.model.memory import upload
from difuso.model.noise import draw_noise, image_generator

from ..kinds.base import JobStart
from ..stepping.inputs import enlarged_inputs, inputs_of_image, joined
from ..stepping.runner import Runner
from ..stepping.trajectory import Trajectory


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
    if config.small_shape != tuple(shape) or not config.accepts(None):
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
        answer.inputs = inputs_of_image(config, None, {}, upscaler.device)
    noises = draw_noise(generators, config.small_shape)

    def begin_answers() -> None:
        for small, answer, noise in zip(first.answers, answers, noises, strict=True):
            if "level" not in answer.inputs:  # also where a snapshot says that the answer has begun
                # As a PNG of the small image would have it, so that it can be sent to /upscale instead.
                image = from_levels(to_uint8(small.x[None].cpu()))[0]
                small_image = enlarged_inputs(image, stage.augmentation, noise, answer.x)
                answer.inputs, answer.ready = joined(small_image, answer.inputs), True

    return JobStart(answers, first.answers, begin_answers, upscaler)
