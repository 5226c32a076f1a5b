"""/fleet: workers and queues, for operators, who may hold them back."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Path

from difuso.jobs.params import MODEL_NAME
from difuso.jobs.redis.keys import QueueName
from difuso.jobs.redis.workers import ModelReport, WorkerReport
from difuso.jobs.values import Frozen

from ..errors import NotAllowed, NotPossibleNow
from ..requests.deps import CallerDep, ProcessDep, StatusDep

WORKER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


async def may_operate(key: CallerDep) -> None:
    """Refuses a key that is no operator's; a server without keys has none."""
    if key is not None and not key.is_operator:
        raise NotAllowed("Ask for a key with role=operator.")


router = APIRouter(tags=["fleet"], dependencies=[Depends(may_operate)])

Model = Annotated[str, Path(pattern=MODEL_NAME)]
Worker = Annotated[str, Path(pattern=WORKER)]


class WorkerView(Frozen):
    """A live worker as it last reported; `silent_seconds` is how long ago that was."""

    name: str
    host: str
    difuso: str
    slots: int
    silent_seconds: float
    cordoned: bool
    models: tuple[ModelReport, ...]

    @classmethod
    def of(cls, report: WorkerReport, cordoned: frozenset[str]) -> "WorkerView":
        return cls(
            **report.model_dump(include={"name", "host", "difuso", "slots", "models"}),
            silent_seconds=round(max(0.0, time.time() - report.at), 1),
            cordoned=report.name in cordoned,
        )


class QueueView(Frozen):
    """The jobs of one version of a model with one urgency: those that wait and those that run."""

    model: str
    version: str | None
    urgency: int
    queued: int
    running: int


class FleetView(Frozen):
    """The workers, the queues with unfinished jobs, and the models whose jobs wait because an operator says so."""

    workers: list[WorkerView]
    queues: list[QueueView]
    paused: list[str]


def _queue(name: QueueName, depths: dict[str, int]) -> QueueView:
    model, _, version = name.ref.partition("@")
    facts = {"queued": depths["queued"], "running": depths["started"]}
    return QueueView(model=model, version=version or None, urgency=name.urgency, **facts)


@router.get("/fleet", summary="List workers and queues", response_model_exclude_none=True)
def get_fleet(process: ProcessDep) -> FleetView:
    holds = process.queue.holds()
    queues = (_queue(name, depths) for name, depths in process.queue.depths().items())
    return FleetView(
        workers=[WorkerView.of(each, holds.workers) for each in process.queue.workers()],
        queues=[each for each in queues if each.queued or each.running],
        paused=sorted(holds.models),
    )


@router.put("/fleet/paused/{model}", summary="Pause a model", status_code=204)
def pause_model(model: Model, process: ProcessDep) -> None:
    """Its jobs are accepted and wait; those that run go on. Workers hear of it within seconds."""
    process.queue.hold("model", model, back=True)


@router.delete("/fleet/paused/{model}", summary="Resume a model", status_code=204)
def resume_model(model: Model, process: ProcessDep) -> None:
    process.queue.hold("model", model, back=False)


@router.put("/fleet/cordoned/{worker}", summary="Cordon a worker", status_code=204)
def cordon_worker(worker: Worker, process: ProcessDep) -> None:
    """It claims nothing more, finishes what it has, and stays up."""
    process.queue.hold("worker", worker, back=True)


@router.delete("/fleet/cordoned/{worker}", summary="Let a worker claim again", status_code=204)
def uncordon_worker(worker: Worker, process: ProcessDep) -> None:
    process.queue.hold("worker", worker, back=False)


@router.post("/jobs/{job_id}/first", summary="Move a job to the head of its queue", status_code=204)
def move_first(status: StatusDep, process: ProcessDep) -> None:
    """Among jobs of the same urgency it is the next."""
    if not process.queue.move_first(status.job):
        raise NotPossibleNow("The job does not wait in a queue.")
