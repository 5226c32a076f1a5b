"""/trainings: models of one's own, trained on a dataset by a trainer; each private to the key that ordered it."""

import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from difuso.jobs.contract import JOB_ID
from difuso.jobs.params import MODEL_NAME
from difuso.jobs.trainings.records import Order, TooManyTrainings, Training, TrainingNotFound
from difuso.jobs.trainings.states import Sheet
from difuso.jobs.values import Frozen

from ..errors import LimitReached, NameTaken, NotPossibleNow
from ..formats import BINARY
from ..http.api_keys import may_see
from ..http.headers import LastEventIdHeader
from ..requests.deps import CallerDep, Process, ProcessDep
from ..requests.watching import Event, job_events, progress_event
from .datasets import may_train, owner_of

MAX_UNFINISHED, MAX_KEPT = 4, 100  # trainings of an owner
WAIT_SECONDS = 600  # after which one may have ended

Preset = Literal["taste", "good", "best"]
Wanted = Literal["pause", "resume", "stop"]


class Settings(Frozen):
    """A preset with changes."""

    preset: Preset = "good"
    image_size: int | None = Field(None, ge=16, le=128, multiple_of=16, description="side of the pictures, in pixels")
    batch_size: int | None = Field(None, ge=1, le=256, description="number of pictures in one step")
    learning_rate: float | None = Field(None, gt=0, le=1)
    ema_decay: float | None = Field(None, ge=0, lt=1, description="of the averaged weights that are served")


class TrainingRequest(Frozen):
    """A training to begin."""

    dataset: str = Field(pattern=MODEL_NAME, description="name of one of your datasets")
    name: str = Field(pattern=MODEL_NAME, description="of the model, for everybody who uses this server")
    preset: Preset | Settings = Field("good", description="how to train, see docs/training.md")
    minutes: float | None = Field(None, ge=0.1, le=10_000, description="if not as long as the preset says")
    dry_run: bool = Field(False, description="whether only to measure some steps; the log says what the whole needs")


class TrainingView(Training):
    """A training, with the addresses of its samples, and of those with the pictures nearest to them."""

    sheets: list[str]
    nearest: list[str]


class TrainingList(Frozen):
    """Trainings, the newest first."""

    trainings: list[TrainingView]


router = APIRouter(tags=["training"], dependencies=[Depends(may_train)])


async def _training(training_id: str, request: Request) -> Training:
    """Returns a training that the caller may see; all others count as unknown."""
    process: Process = request.state.process
    if not re.fullmatch(JOB_ID, training_id):
        raise TrainingNotFound
    found = await run_in_threadpool(process.trainings.get, training_id)
    if not may_see(request.state.caller, found.owner):
        raise TrainingNotFound
    return found


TrainingDep = Annotated[Training, Depends(_training)]
Step = Annotated[int, Path(ge=0, lt=10**8)]


def _view(training: Training) -> TrainingView:
    def addresses(kind: Sheet) -> list[str]:
        if training.expired:
            return []
        return [f"/trainings/{training.id}/{kind}/{step}" for step in getattr(training.progress, kind)]

    return TrainingView(**training.model_dump(), sheets=addresses("sheets"), nearest=addresses("nearest"))


@router.post("/trainings", summary="Train a model", status_code=202, response_model_exclude_none=True)
def create_training(body: TrainingRequest, process: ProcessDep, key: CallerDep, response: Response) -> TrainingView:
    """Waits for a trainer. The model is served under its name once a tenth of the training is done."""
    owner, catalog = owner_of(key, None), process.catalog
    dataset = process.datasets.get(owner, body.dataset)
    if not body.dry_run and (body.name in catalog.models or body.name in catalog.refused):
        raise NameTaken
    mine = [each for each in process.trainings.all() if each.owner == owner]
    if len(mine) >= MAX_KEPT:
        raise LimitReached(f"You have {MAX_KEPT} trainings: delete one.", retry_after=WAIT_SECONDS)
    settings = body.preset if isinstance(body.preset, Settings) else Settings(preset=body.preset)
    changes = settings.model_dump(exclude={"preset"}, exclude_none=True)
    order = Order(
        id=str(uuid.uuid4()),
        owner=owner,
        dataset=body.dataset,
        name=body.name,
        preset=settings.preset,
        minutes=body.minutes,
        changes=tuple(f"{name}={value}" for name, value in changes.items()),
        dry_run=body.dry_run,
        advice=dataset.summary.advice,
        created_at=time.time(),
    )
    with _limited():
        if not process.trainings.create(order, MAX_UNFINISHED):
            raise NameTaken
    response.headers["Location"] = f"/trainings/{order.id}"
    return _view(process.trainings.get(order.id))


@contextmanager
def _limited() -> Iterator[None]:
    try:
        yield
    except TooManyTrainings as error:
        detail = f"You have {MAX_UNFINISHED} trainings that have not ended."
        raise LimitReached(detail, retry_after=WAIT_SECONDS) from error


@router.get("/trainings", summary="List your trainings", response_model_exclude_none=True)
def list_trainings(process: ProcessDep, key: CallerDep) -> TrainingList:
    """Lists those of the caller, or for an operator all, without their recipes and logs."""
    mine = (each for each in process.trainings.all() if may_see(key, each.owner))
    return TrainingList(trainings=[_view(each.model_copy(update={"recipe": "", "log": ""})) for each in mine])


@router.get("/trainings/{training_id}", summary="Get a training", response_model_exclude_none=True)
async def get_training(training: TrainingDep) -> TrainingView:
    return _view(training)


@router.get(
    "/trainings/{training_id}/events",
    summary="Follow a training",
    response_class=EventSourceResponse,
    responses={200: {"description": "Server-sent events"}},
)
async def follow_training(
    request: Request,
    training: TrainingDep,
    process: ProcessDep,
    key: CallerDep,
    last_event_id: LastEventIdHeader = None,
) -> AsyncIterator[ServerSentEvent]:
    """Sends the training as `progress` at each change, and at the end by the name of its state if it is not deleted."""
    if request.state.is_head:
        return
    with suppress(TrainingNotFound):  # it was deleted, which whoever asks again is told
        async with aclosing(process.watcher.follow_by(lambda: _event(training.id, process), training.id, key)) as news:
            async for event in job_events(news, last_event_id):
                yield event


def _event(training_id: str, process: Process) -> Event:
    found = process.trainings.get(training_id)
    text = _view(found).model_dump_json(exclude_none=True)
    return Event(found.state, text, found.state) if found.is_over else progress_event(text)


def _png(description: str) -> Any:
    return {200: {"description": description, "content": {"image/png": {"schema": BINARY}}}}


@router.get(
    "/trainings/{training_id}/sheets/{step}",
    summary="Get samples of a training",
    response_class=Response,
    responses=_png("What the model drew after so many steps"),
)
async def get_training_sheet(training: TrainingDep, process: ProcessDep, step: Step) -> Response:
    return await _sheet(process, training, "sheets", step)


@router.get(
    "/trainings/{training_id}/nearest/{step}",
    summary="Get the pictures nearest to samples of a training",
    response_class=Response,
    responses=_png("Rows of samples, and below each row the pictures of the dataset nearest to them"),
)
async def get_training_nearest(training: TrainingDep, process: ProcessDep, step: Step) -> Response:
    return await _sheet(process, training, "nearest", step)


async def _sheet(process: Process, training: Training, kind: Sheet, step: int) -> Response:
    try:
        sheet = await run_in_threadpool(process.training_files.sheet, training.id, kind, step)
    except FileNotFoundError as error:
        raise HTTPException(404) from error
    return Response(sheet, media_type="image/png")


@router.post(
    "/trainings/{training_id}/{wanted}",
    summary="Pause, resume or stop a training",
    status_code=202,
    response_model_exclude_none=True,
)
def ask_training(training: TrainingDep, wanted: Wanted, process: ProcessDep) -> TrainingView:
    """Pauses or stops it after its step, and keeps the model; resumes it, also after it was stopped or failed."""
    with _limited():
        if not process.trainings.ask(training.id, wanted, MAX_UNFINISHED):
            raise NotPossibleNow(f"The training is {training.state}.")
    return _view(process.trainings.get(training.id))


@router.delete("/trainings/{training_id}", summary="Delete a training", status_code=204)
def delete_training(training: TrainingDep, process: ProcessDep) -> None:
    """Ends it, and has a trainer delete its files and its model, whose name is free then."""
    process.trainings.ask(training.id, "delete")
