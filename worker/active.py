"""A job in flight: its trajectories, and the notes that the main thread and the engine thread pass each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from jobs.contract import Job
from jobs.errors import JobUnreadable

from .kinds import WORKER_KINDS
from .kinds.base import JobStart
from .runner import Runner
from .trajectory import Snapshot, Trajectory, restore_snapshot


@dataclass(eq=False)
class ActiveJob:
    """One job that this worker has claimed.

    Attributes:
        runner: its model, in the version that it began with.
        start: its trajectories, in the order of the answer, and those that they wait for.
        deadline: when it has run too long, on the monotonic clock.
        attempt: name of this try, unique; its pictures are stored under it.
        claimed_at: seconds since the epoch.
        denoise_seconds: that its steps took, shared or not.
        network_calls: in which it had a part.
        resumed_at: image-steps that an earlier worker had done.
        alone: no other job is claimed beside it, since its workers may have died of it; until its first snapshot.
        cancel, release, preview: wishes of the main thread, fulfilled by the engine after its next step: drop the job;
            give it up with its state; show an unfinished image.
    """

    job: Job
    runner: Runner
    start: JobStart
    deadline: float
    attempt: str = ""
    claimed_at: float = field(default_factory=time.time)
    denoise_seconds: float = 0.0
    network_calls: int = 0
    resumed_at: int = 0
    snapshot_at: float = field(default_factory=time.monotonic)
    alone: bool = False
    cancel: bool = False
    release: bool = False
    preview: bool = False

    @property
    def answers(self) -> list[Trajectory]:
        """Those that become pictures."""
        return self.start.answers

    @property
    def trajectories(self) -> list[Trajectory]:
        """All; the answers first."""
        return [*self.answers, *self.start.waited_for]

    def begin_waiting(self) -> None:
        """After a step: lets those begin that waited for others."""
        if self.start.between is not None:
            self.start.between.begin_if_ready()

    @property
    def image_steps(self) -> int:
        """Done so far."""
        return sum(t.row * t.cost for t in self.trajectories)

    @property
    def left(self) -> int:
        """Image-steps still to do."""
        return self.job.image_steps - self.image_steps

    @property
    def rounds(self) -> int:
        """Steps still to come if every image had its place in each; those that wait for others come after them."""
        waves = self.answers, self.start.waited_for
        return sum(max((len(t.plan) - t.row for t in wave), default=0) for wave in waves)

    @property
    def unfinished(self) -> list[Trajectory]:
        """Those that can step."""
        return [t for t in self.trajectories if t.ready and not t.finished]


def activate(
    job: Job, runner: Runner, *, sent: Sequence[Tensor] = (), attempt: str = "", snapshot: bytes | None = None
) -> ActiveJob:
    """Makes a job ready to step, where a snapshot left it if there is one that fits.

    Args:
        sent: the pictures that came with the job, each of shape (C, H, W) in [-1, 1].

    Raises:
        PlanError: if the model has no such run.
        JobUnreadable: if the model has no such class, or needs one and is told none, or the pictures do not fit.
    """
    params = job.params
    scales = {"guidance_scale": params.guidance_scale, "classifier_scale": params.classifier_scale}
    if not runner.checkpoint.config.accepts(params.label, **scales):  # on a GPU a wrong index would end the process
        raise JobUnreadable(f"{job.model} cannot be asked for class {params.label} with {scales}")
    start = WORKER_KINDS[job.kind].begin(job, runner, sent)
    active = ActiveJob(job, runner, start, time.monotonic() + job.timeout, attempt)
    if snapshot is not None and restore_snapshot(snapshot, active.trajectories, runner.checkpoint.sha256):
        active.resumed_at = active.image_steps
        active.begin_waiting()
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
