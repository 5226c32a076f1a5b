"""A job in flight: its trajectories, and the notes that the main thread and the engine thread pass each other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from torch import Tensor

from jobs.contract import Job
from jobs.errors import JobUnreadable

from .runner import Runner
from .trajectory import Snapshot, Trajectory, new_trajectories, restore_snapshot


@dataclass(eq=False)
class ActiveJob:
    """One job that this worker has claimed.

    Attributes:
        trajectories: one per image, in order.
        deadline: when it has run too long, on the monotonic clock.
        attempt: name of this try, unique; its pictures are stored under it.
        denoise_seconds: that its steps took, shared or not.
        resumed_at: image-steps that an earlier worker had done.
        cancel, release, preview: wishes of the main thread, fulfilled by the engine after its next step: drop the job;
            give it up with its state; show an unfinished image.
    """

    job: Job
    trajectories: list[Trajectory]
    deadline: float
    attempt: str = ""
    denoise_seconds: float = 0.0
    resumed_at: int = 0
    snapshot_at: float = field(default_factory=time.monotonic)
    cancel: bool = False
    release: bool = False
    preview: bool = False

    @property
    def image_steps(self) -> int:
        """Done so far."""
        return sum(t.row * t.cost for t in self.trajectories)

    @property
    def left(self) -> int:
        """Image-steps still to do."""
        return self.job.params.image_steps - self.image_steps

    @property
    def unfinished(self) -> list[Trajectory]:
        return [t for t in self.trajectories if not t.finished]


def activate(job: Job, runner: Runner, *, attempt: str = "", snapshot: bytes | None = None) -> ActiveJob:
    """Makes a job ready to step, where a snapshot left it if there is one that fits.

    Raises:
        PlanError: if the model has no such run.
        JobUnreadable: if the model has no such class, or needs one and is told none.
    """
    params = job.params
    config = runner.checkpoint.config
    scales = {"guidance_scale": params.guidance_scale, "classifier_scale": params.classifier_scale}
    if not config.accepts(params.label, **scales):  # on a GPU an index outside the table would end the process
        raise JobUnreadable(f"{job.model} cannot be asked for class {params.label} with {scales}")
    plan = config.plan(
        runner.checkpoint.schedule,
        sampler=params.sampler,
        steps=params.steps,
        spacing=params.spacing,
        eta=params.eta,
        variance=params.variance,
        clip=params.clip,
        classifier_scale=params.classifier_scale,
    )
    table = runner.table(plan)
    trajectories = new_trajectories(
        plan,
        table,
        seeds=range(params.seed, params.seed + params.n),
        shape=config.shape,
        label=params.label,
        guidance_scale=params.guidance_scale,
    )
    active = ActiveJob(job, trajectories, time.monotonic() + job.timeout, attempt)
    if snapshot is not None and restore_snapshot(snapshot, trajectories, runner.checkpoint.sha256):
        active.resumed_at = active.image_steps
    return active


# What the engine tells the main thread.


@dataclass(frozen=True, eq=False)
class Finished:
    """All images are done, or the job cannot go on."""

    active: ActiveJob
    error: BaseException | None = None


@dataclass(frozen=True, eq=False)
class Snapped:
    """A moment of a job; `released` if the engine has let go of it."""

    active: ActiveJob
    snapshot: Snapshot
    released: bool = False


@dataclass(frozen=True, eq=False)
class Previewed:
    """The current guess at image `index`, shape (C, H, W)."""

    active: ActiveJob
    index: int
    x0: Tensor


EngineEvent = Finished | Snapped | Previewed
