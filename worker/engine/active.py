"""A job in flight: its trajectories, and the notes that the main thread and the engine thread pass each other."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from difuso.jobs.cascade import enlarging_seed
from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.kinds.base import is_probed
from difuso.jobs.moments import kept_calls
from difuso.jobs.nearest import probes_of
from difuso.model.images import from_levels, to_uint8
from difuso.model.memory import upload
from difuso.model.noise import draw_noise, image_generator

from ..job_start import JobStart
from ..kinds import WORKER_KINDS
from ..probing import begin_with_probes
from ..stepping.inputs import add_inputs, check_accepted, enlarged_inputs, inputs_of_image, joined
from ..stepping.runner import Runner
from ..stepping.trajectory import SNAPSHOT_FORMAT, Snapshot, Trajectory, restore_snapshot


class Stage(NamedTuple):
    """The part of a job that one model steps."""

    runner: Runner  # the model
    # its trajectories; those of the first wave begin, at the latest, when the others end
    waves: tuple[Sequence[Trajectory], ...]

    @property
    def is_finished(self) -> bool:
        return all(t.finished for wave in self.waves for t in wave)

    @property
    def left(self) -> int:
        """Number of image-steps of the model still to do."""
        return sum(t.left for wave in self.waves for t in wave)

    @property
    def rounds(self) -> int:
        """Number of steps still to come if each gives every image a slot; images that wait for others come later."""
        return sum(max((len(t.plan) - t.row for t in wave), default=0) for wave in self.waves)

    def seconds(self, image_steps: int) -> float:
        """Returns the seconds until the end, if by then the model makes so many image-steps, of all jobs.

        No image steps faster than it would alone. The speed is the measured one, as much slower as the last steps were.
        """
        idle = max(image_steps / self.runner.rate, self.rounds * self.runner.step_seconds)
        return idle * self.runner.slowness.factor


@dataclass(eq=False)
class ActiveJob:
    """One job that this worker has claimed."""

    job: Job  # the job as it was accepted; at its end for the versions that drew what is stored
    runner: Runner  # the job's model, in the version that the job began with; see `stepping`
    start: JobStart  # the trajectories that become images, in the order of the answer, and those that they wait for
    attempt: str = ""  # unique name of this try; the images are stored under it
    claimed_at: float = field(default_factory=time.time)  # time of the claim, in seconds since the epoch
    denoise_seconds: float = 0.0  # seconds that the job's steps took, including steps shared with other jobs
    device_seconds: float = 0.0  # of these its share: jobs that share a step share its seconds
    network_calls: int = 0  # number of network calls that the job took part in
    resumed_at: int = 0  # number of image-steps that an earlier worker had done
    snapshot_at: float = field(default_factory=time.monotonic)  # time of the last snapshot, on the monotonic clock
    # whether no other job is claimed with this one, because its workers may have died of it. Ends with its first
    # snapshot.
    alone: bool = False
    is_announced: bool = False  # whether Redis has the timesteps and a first progress
    has_snapshot: bool = True  # whether the store may have a snapshot of the job
    # cancel, release, preview: requests of the main thread, carried out by the engine at its next step: drop the job;
    # let go of it with its state; show an unfinished image
    cancel: bool = False
    release: bool = False
    preview: bool = False

    @property
    def drawn_job(self) -> Job:
        """The job as its images are drawn: with the conditions that were found for its picture, if any were."""
        return self.job.found_with(self.start.found)

    @property
    def answers(self) -> list[Trajectory]:
        """The trajectories that become images."""
        return self.start.answers

    @property
    def trajectories(self) -> list[Trajectory]:
        """All trajectories; the answers come first."""
        return [*self.answers, *self.start.waited_for]

    @property
    def values(self) -> int:
        """Number of values of all its images."""
        return sum(each.x.numel() for each in self.answers)

    @property
    def stages(self) -> list[Stage]:
        """The stages of the job: one, or two of a cascade."""
        if self.start.upscaler is None:
            return [Stage(self.runner, (self.answers, self.start.waited_for))]
        return [Stage(self.runner, (self.start.waited_for,)), Stage(self.start.upscaler, (self.answers,))]

    @property
    def ahead(self) -> list[Stage]:
        """The stage that steps now, and those after it."""
        return [stage for stage in self.stages if not stage.is_finished] or self.stages[-1:]

    @property
    def stepping(self) -> Runner:
        """The model that steps the job now; asked for every job after each step."""
        return self.runner if self.start.upscaler is None else self.ahead[0].runner

    @property
    def run_sha256(self) -> str:
        """The SHA-256 of all that determines the images, and of the format; a snapshot of another run does not fit.

        A job that was forgotten may have left one to a new job of the same id.
        """
        asked = self.job.model_dump_json(include={"task", "model", "params", "pictures", "trace"})
        models = "".join(f"{stage.runner.checkpoint.version} {stage.runner.precision}" for stage in self.stages)
        return hashlib.sha256((f"{SNAPSHOT_FORMAT} {models}{asked}").encode()).hexdigest()

    @property
    def image_steps(self) -> int:
        """Number of image-steps done so far."""
        return sum(t.spent * t.weight for t in self.trajectories)

    @property
    def left(self) -> int:
        """Number of image-steps still to do."""
        return sum(t.left * t.weight for t in self.trajectories)

    @property
    def unfinished(self) -> list[Trajectory]:
        """The trajectories that can step."""
        return [t for t in self.trajectories if t.ready and not t.finished]


def activate(
    job: Job,
    runner: Runner,
    *,
    upscaler: Runner | None = None,
    sent: Sequence[Tensor] = (),
    attempt: str = "",
    snapshot: bytes | None = None,
) -> ActiveJob:
    """Makes a job ready to step. It continues from the snapshot if there is one that fits.

    Args:
        upscaler: the model of the second stage of a cascade, if there is one and this worker has it.
        sent: the uploaded images, each of shape (C, H, W) in [-1, 1]; after those of its kind, the images and sequences
            that `SamplingParams.uploads` names.
        attempt: unique name of this try; the images are stored under it.
        snapshot: what an earlier worker stored with `encode_snapshot`.

    Raises:
        PlanError: if the model has no such run.
        JobUnreadable: if the class is unknown or missing, or if the job's images or its second stage do not fit.
    """
    params, config = job.params, runner.checkpoint.config
    probes = probes_of(config) if is_probed(job.task) and not params.conditions else ()
    check_accepted(job.found_with({name: each[:1] for name, each in config.examples.items()} if probes else {}), config)
    if config.enlarges is not job.task.enlarges:
        only = "from noise" if job.task.enlarges else "from an image"
        raise JobUnreadable(f"{job.model} draws {only} only")
    count = len(sent) - len(params.uploads(config))
    start = WORKER_KINDS[job.kind].begin(job, runner, sent[:count])
    for trajectories in (start.answers, start.waited_for):
        add_inputs(params, config, trajectories, sent[count:])
    for answer in start.answers:
        answer.keeps = kept_calls(job.trace, len(answer.plan))
    if probes:
        start = begin_with_probes(job, runner, start, probes)
    if job.task.second_stage is not None:
        start = _begin_cascade(job, start, upscaler)
    active = ActiveJob(job, runner, start, attempt)
    seconds = None if snapshot is None else restore_snapshot(snapshot, active.trajectories, active.run_sha256)
    if seconds is not None:
        active.denoise_seconds, active.device_seconds = seconds
        active.resumed_at = active.image_steps
        active.start.begin_if_ready()
    return active


def _begin_cascade(job: Job, first: JobStart, upscaler: Runner | None) -> JobStart:
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
    plan = config.plan_of(checkpoint.schedule, stage.settings)
    generators = [image_generator(enlarging_seed(job.params.seed_of(index))) for index in range(job.params.n)]
    answers = [
        Trajectory(plan, generator, x, x, (x, x, x), ready=False, weight=stage.weight)
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


# The events that the engine reports.


@dataclass(frozen=True, eq=False)
class Finished:
    """All steps of a job are made, though a GPU may still compute the last; or it failed because of `error`."""

    active: ActiveJob
    error: BaseException | None = None


@dataclass(frozen=True, eq=False)
class Snapped:
    """The engine took a snapshot of a job; `released` means that it also let go of the job."""

    active: ActiveJob
    snapshot: Snapshot
    released: bool = False


@dataclass(frozen=True, eq=False)
class Previewed:
    """A preview is ready: the current prediction x0 of image `index`, shape (C, H, W)."""

    active: ActiveJob
    index: int
    x0: Tensor


EngineEvent = Finished | Snapped | Previewed
