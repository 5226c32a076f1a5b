"""Simulated jobs, and what is reused of the worker for them: how slots are shared, and how long a job will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from benchmarks.load import Order
from jobs.contract import DEFAULT_URGENCY
from worker import fairness

from .rates import Steps


@dataclass(eq=False, slots=True)
class Image:
    """One image of a job; `left` is its steps to come."""

    left: int
    cost: ClassVar[int] = 1


class SimulatedJob:
    """A job; it has the attributes of `worker.active.ActiveJob` that `share_slots` and `forecast` read.

    Attributes:
        saved: the steps to come of each image in the last snapshot.
        snapshot_at: when it was taken; at first, when the job began to step.
        deaths: the workers that died while they held it.
        release: whether its worker is to let go of it.
        reported: image-steps to come as its worker last reported them; the backlog.
        claimed_at: when a worker first claimed it; None before.
        ended_at: when its client was answered; None before.
    """

    __slots__ = (
        "claimed_at",
        "deaths",
        "ended_at",
        "images",
        "order",
        "release",
        "reported",
        "saved",
        "snapshot_at",
        "unfinished",
        "urgency",
    )

    def __init__(self, order: Order, urgency: int = DEFAULT_URGENCY) -> None:
        self.order = order
        self.urgency = urgency
        self.images = [Image(order.steps) for _ in range(order.n)]
        self.unfinished = list(self.images)
        self.saved = [order.steps] * order.n
        self.snapshot_at = 0.0
        self.deaths = 0
        self.release = False
        self.reported = order.image_steps
        self.claimed_at: float | None = None
        self.ended_at: float | None = None

    @property
    def job(self) -> SimulatedJob:
        """The job as it was accepted."""
        return self

    @property
    def ahead(self) -> tuple[SimulatedJob]:
        """Its stages to come: a simulated job has one."""
        return (self,)

    @property
    def left(self) -> int:
        """Image-steps still to do."""
        return sum(image.left for image in self.unfinished)

    @property
    def rounds(self) -> int:
        """Steps to come if every image gets a slot in each."""
        return max((image.left for image in self.unfinished), default=0)

    def save(self, now: float) -> None:
        """Takes a snapshot."""
        self.saved = [image.left for image in self.images]
        self.snapshot_at = now

    def restore(self) -> int:
        """Goes back to the last snapshot; returns the image-steps that were lost."""
        before = self.left
        for image, left in zip(self.images, self.saved, strict=True):
            image.left = left
        self.unfinished = [image for image in self.images if image.left]
        return self.left - before


def share_slots(jobs: Sequence[SimulatedJob], slots: int, turn: int) -> list[tuple[SimulatedJob, Image]]:
    """Returns the images that step next: the worker's own function, which reads nothing else of a job."""
    chosen: Any = fairness.share_slots(cast(Any, jobs), slots, turn)
    return cast(list[tuple[SimulatedJob, Image]], chosen)


def forecast(job: SimulatedJob, steps: Steps) -> float:
    """Returns the seconds until a job is done if it has the worker to itself: the worker's own function."""
    found: Any = fairness.forecast(cast(Any, [job]), cast(Any, steps))
    return cast(float, found[job])
