"""/fleet: workers and queues, for operators, who may hold them back."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from starlette.exceptions import HTTPException

from difuso.jobs.redis.keys import QueueName
from difuso.jobs.redis.workers import WorkerReport
from difuso.jobs.values import Frozen

from ..errors import NotAllowed, NotPossibleNow
from ..requests.deps import CallerDep, ProcessDep, StatusDep

KINDS: dict[str, Literal["model", "worker"]] = {"paused": "model", "cordoned": "worker"}


async def may_operate(key: CallerDep) -> None:
    """Refuses a key that is no operator's; a server without keys has none."""
    if key is not None and not key.is_operator:
        raise NotAllowed("Ask for a key with role=operator.")


router = APIRouter(tags=["fleet"], dependencies=[Depends(may_operate)])

Held = Literal["paused", "cordoned"]
Name = Annotated[str, Path(max_length=128, description="of the model, or of the worker")]


class HeldView(Frozen):
    """A version of a model that a worker holds or refuses, with its image-steps per second or the `reason`.

    `load_seconds` is the time that loading takes, if the worker has not loaded it.
    """

    name: str
    version: str | None = None
    rate: float | None = None
    load_seconds: float | None = None
    reason: str | None = None


class WorkerView(Frozen):
    """A live worker as it last reported, so long ago."""

    name: str
    host: str
    difuso: str
    slots: int
    silent_seconds: float
    cordoned: bool
    models: list[HeldView]

    @classmethod
    def of(cls, report: WorkerReport, cordoned: frozenset[str]) -> "WorkerView":
        return cls(
            **report.model_dump(include={"name", "host", "difuso", "slots"}),
            models=[HeldView.model_validate(each, from_attributes=True) for each in report.models],
            silent_seconds=round(max(0.0, time.time() - report.at), 1),
            cordoned=report.name in cordoned,
        )


class QueueView(Frozen):
    """The unfinished jobs of one version of a model with one urgency."""

    model: str
    version: str | None = None
    urgency: int
    queued: int
    running: int


class FleetView(Frozen):
    """The workers, the queues with unfinished jobs, and the paused models."""

    workers: list[WorkerView]
    queues: list[QueueView]
    paused: list[str]


def _queue(name: QueueName, depths: dict[str, int]) -> QueueView:
    return QueueView(
        model=name.model,
        version=name.ref.partition("@")[2] or None,
        urgency=name.urgency,
        queued=depths["queued"],
        running=depths["started"],
    )


@router.get("/fleet", summary="List workers and queues", response_model_exclude_none=True)
def get_fleet(process: ProcessDep) -> FleetView:
    holds = process.queue.holds()
    queues = (_queue(name, depths) for name, depths in process.queue.depths().items())
    return FleetView(
        workers=[WorkerView.of(each, holds.workers) for each in process.queue.workers()],
        queues=[each for each in queues if each.queued or each.running],
        paused=sorted(holds.models),
    )


@router.put("/fleet/{held}/{name}", summary="Pause a model, or cordon a worker", status_code=204)
def hold_back(held: Held, name: Name, process: ProcessDep) -> None:
    """The jobs of a paused model are accepted and wait. A cordoned worker finishes what it has, claims nothing more and
    stays up. Workers hear of it within seconds.
    """
    queue = process.queue
    known = process.catalog.models if held == "paused" else {each.name for each in queue.workers()}
    if name not in known:
        raise HTTPException(404)
    queue.hold(KINDS[held], name)


@router.delete("/fleet/{held}/{name}", summary="Let a model or a worker go on", status_code=204)
def let_go(held: Held, name: Name, process: ProcessDep) -> None:
    process.queue.let_go(KINDS[held], name)


@router.post("/jobs/{job_id}/first", summary="Move a job to the head of its queue", status_code=204)
def move_first(status: StatusDep, process: ProcessDep) -> None:
    """Among jobs of the same urgency it is the next."""
    if not process.queue.move_first(status.job):
        raise NotPossibleNow("The job does not wait in a queue.")
