"""/jobs: where a job stands, its events, its pictures, and cancelling it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from jobs.events import Preview

from ..answers import job_json, picture, pictures
from ..deps import FormatDep, QueueDep, RenderersDep, StatusDep, StoreDep, WatcherDep
from ..views import JobView, Outlook, job_text

router = APIRouter(tags=["jobs"])

IfNoneMatch = Annotated[str | None, Header()]


@router.get("/jobs/{job_id}", summary="Where a job stands", response_model=JobView)
async def job(status: StatusDep) -> Response:
    return job_json(status)


@router.delete("/jobs/{job_id}", summary="Cancel a job", response_model=JobView, responses={202: {"model": JobView}})
def cancel(before: StatusDep, queue: QueueDep) -> Response:
    """Queued jobs are cancelled at once (200), running ones at their next step (202); ended ones stay as they are."""
    status = queue.cancel(before.job.id)
    return job_json(status, code=200 if status.state.is_terminal else 202)


@router.get("/jobs/{job_id}/events", summary="Follow a job", response_class=EventSourceResponse)
async def events(first: StatusDep, watcher: WatcherDep) -> AsyncIterator[ServerSentEvent]:
    """`progress` whenever something changed, `preview` of pictures on their way, then the job under its final state."""
    shown: Outlook | None = None
    async with aclosing(watcher.follow(first.job.id, previews=True)) as news:
        async for item in news:
            if isinstance(item, Preview):
                yield ServerSentEvent(event="preview", data=item)
            elif item.state.is_terminal:
                yield ServerSentEvent(event=item.state, raw_data=job_text(item))
            elif (outlook := Outlook.of(item)) != shown:
                shown = outlook
                yield ServerSentEvent(event="progress", raw_data=outlook.model_dump_json(exclude_none=True))


@router.head("/jobs/{job_id}/image", include_in_schema=False)
@router.get("/jobs/{job_id}/image", summary="All pictures of a job", response_class=Response)
async def image(
    status: StatusDep, store: StoreDep, form: FormatDep, renderers: RenderersDep, if_none_match: IfNoneMatch = None
) -> Response:
    """The picture or a contact sheet; a zip or a multipart message where Accept says so."""
    return await pictures(status, store, form, renderers, known=if_none_match)


@router.head("/jobs/{job_id}/images/{index:int}", include_in_schema=False)
@router.get("/jobs/{job_id}/images/{index:int}", summary="One picture of a job", response_class=Response)
def one_image(status: StatusDep, store: StoreDep, index: int, if_none_match: IfNoneMatch = None) -> Response:
    if index >= status.job.answers:
        raise HTTPException(404)
    return picture(status, store, index, known=if_none_match)
