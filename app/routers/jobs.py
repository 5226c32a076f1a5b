"""/jobs: the list of jobs; and the status, the events and the images of a job, and its cancellation."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from difuso.jobs.contract import JobState
from difuso.jobs.kinds import KINDS
from difuso.jobs.params import MODEL_NAME, TAG
from difuso.jobs.redis.index import EVERYBODY, Cursor, Wanted
from difuso.jobs.redis.status import JobStatus
from difuso.jobs.values import Frozen

from ..errors import InvalidRequest, NotReady, Overloaded
from ..formats import BINARY, CONTENT, FORMATS, FilmFormat, Format
from ..http.api_keys import NAME, ApiKey
from ..http.headers import (
    IfNoneMatchHeader,
    LastEventIdHeader,
    PatienceHeader,
    cached,
    choose_format,
    entity_tag,
    known_content,
    matches,
    read_preference,
)
from ..http.middleware import CLIENT_GONE
from ..requests import answers
from ..requests.deps import AcceptDep, CallerDep, Process, ProcessDep, ResultStatusDep, StatusDep, single_parameters
from ..requests.views import JobList, JobView, job_text, list_text
from ..requests.watching import ClientGone, is_delivered, job_events

router = APIRouter(tags=["jobs"])
linked_router = APIRouter(tags=["jobs"])  # lets signed links pass

MAX_WAITING = 64  # requests that may wait for their lists
RETRY_SECONDS = 2

Index = Annotated[int, Path(ge=0, description="number of the image, from 0 on")]
Timesteps = Annotated[bool, Query(description="whether to show the timestep at each network call")]


class JobsQuery(Frozen):
    """Query parameters of GET /jobs."""

    state: JobState | None = Field(default=None, description="only jobs in this state")
    kind: Literal[tuple(KINDS)] | None = Field(default=None, description="only jobs of this kind")  # type: ignore[valid-type]
    model: str | None = Field(default=None, pattern=MODEL_NAME, description="only jobs of this model")
    tag: str | None = Field(default=None, pattern=TAG, description="only jobs with this tag")
    without_tag: str | None = Field(default=None, pattern=TAG, description="only jobs without this tag")
    owner: str | None = Field(default=None, pattern=NAME, description="only jobs of this owner, for operators")
    limit: int = Field(default=20, ge=1, le=100, description="largest number of jobs in the answer")
    cursor: str | None = Field(default=None, max_length=200, description="the `next` of the answer before")


@router.get(
    "/jobs/{job_id}",
    summary="Get a job",
    response_model=JobView,
    responses=cached("The job", {}),
)
async def get_job(
    request: Request,
    status: StatusDep,
    process: ProcessDep,
    key: CallerDep,
    timesteps: Timesteps = False,
    prefer: PatienceHeader = None,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """Waits with `Prefer: wait=S` until the job has ended; with If-None-Match until anything about it has changed."""
    sent = ", ".join(request.headers.getlist("prefer"))
    patience = read_preference(sent, longest=process.settings.sync_wait, otherwise=0.0)
    if timesteps:
        status = await run_in_threadpool(process.queue.status, status.job.id, timesteps=True)

    def is_news(status: JobStatus) -> bool:
        return if_none_match is not None and not matches(if_none_match, entity_tag(job_text(status, key)))

    if patience.seconds:
        try:
            until = is_news if timesteps or if_none_match is not None else None
            status = await process.watcher.wait(
                status, request.receive, key, seconds=patience.seconds, until=until, timesteps=timesteps
            )
        except ClientGone:
            return Response(status_code=CLIENT_GONE)
    headers = {"Preference-Applied": patience.applied} if patience.applied else {}
    return answers.job_json(status, key, headers=headers, known=if_none_match)


@router.get(
    "/jobs",
    summary="List your jobs",
    response_model=JobList,
    responses=cached("The jobs", {}),
    dependencies=[single_parameters(JobsQuery)],
)
async def list_jobs(
    query: Annotated[JobsQuery, Query()],
    process: ProcessDep,
    key: CallerDep,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """Lists the caller's jobs, or for an operator all jobs, newest first; queued ones without `position` and
    `eta_seconds`.

    While there is a `next`, more jobs may follow, even if there are fewer than `limit`.
    """
    if process.listers.statistics().tasks_waiting >= MAX_WAITING:
        raise Overloaded("Too many requests are waiting for their lists of jobs.", retry_after=RETRY_SECONDS)
    return await run_sync(_list, query, process, key, if_none_match, limiter=process.listers)


def _list(query: JobsQuery, process: Process, key: ApiKey | None, known: str | None) -> Response:
    owner = _listed_owner(key, query.owner)
    after = None if query.cursor is None else Cursor.decode(query.cursor)
    wanted = Wanted(**query.model_dump(include={"state", "kind", "model", "tag", "without_tag"}))
    page = process.queue.page(owner, wanted, most=query.limit, after=after)
    return known_content(list_text(page, key), known=known, headers={}, media_type=Format.JSON)


def _listed_owner(key: ApiKey | None, asked: str | None) -> str | None:
    """Returns the owner whose jobs a caller lists who asks for those of one; None asks for all that it may see."""
    if key is not None and key.is_operator:
        return asked or EVERYBODY
    own = key.name if key else None
    if asked not in (None, own):
        raise InvalidRequest("parameter", "owner", "Only the API key of an operator lists the jobs of other owners")
    return own


@router.delete(
    "/jobs/{job_id}",
    summary="Cancel a job",
    response_model=JobView,
    responses={
        200: {"description": "The job, which has ended"},
        202: {"description": "The job, which will end soon", "model": JobView},
    },
)
def cancel_job(before: StatusDep, process: ProcessDep, key: CallerDep) -> Response:
    """Cancels a queued job at once (200), and a running one at its next step (202). An ended job is unchanged (200)."""
    status = process.queue.cancel(before.job.id)
    return answers.job_json(status, key, code=200 if status.state.is_terminal else 202)


@router.delete("/jobs/{job_id}/images", summary="Delete the images of a job", status_code=204)
def delete_images(status: StatusDep, process: ProcessDep) -> Response:
    """Deletes the images of a job that has ended, and the images of its request, before their time. May be repeated."""
    if not status.state.is_terminal:
        detail = "Its images can be deleted once it has ended; it can be cancelled before."
        raise NotReady(detail, retry_after=answers.poll_seconds(status))
    process.queue.expire(status.job.id)
    process.store.delete_images(status.job.id)
    return Response(status_code=204)


async def _is_delivered(status: StatusDep, response: Response, last_event_id: LastEventIdHeader = None) -> bool:
    """Returns whether no event follows the one that the client knows. Then the status 204 stops an EventSource."""
    if delivered := is_delivered(status, last_event_id):
        response.status_code = 204
    return delivered


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "Server-sent events"},
        204: {"description": "The client has received the last event"},
    },
)
async def follow_job(
    request: Request,
    job_id: str,
    process: ProcessDep,
    key: CallerDep,
    delivered: Annotated[bool, Depends(_is_delivered)],
    last_event_id: LastEventIdHeader = None,
) -> AsyncIterator[ServerSentEvent]:
    """Sends `progress` at each change, `preview` with unfinished images, and at the end the job, named by its state."""
    if request.state.is_head or delivered:
        return
    async with aclosing(process.watcher.follow(job_id, key)) as news:
        async for event in job_events(news, last_event_id):
            yield event


@router.get(
    "/jobs/{job_id}/image",
    summary="Get all images of a job",
    response_class=Response,
    responses=cached(FORMATS, CONTENT),
)
async def get_images(
    status: ResultStatusDep,
    process: ProcessDep,
    accept: AcceptDep,
    key: CallerDep,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """Returns the image, or a contact sheet of several; another format if Accept demands it."""
    return await answers.images(status, process, accept, key=key, known=if_none_match)


@router.get(
    "/jobs/{job_id}/images/{index}/film",
    summary="Get the film of one image of a job",
    response_class=Response,
    responses=cached(
        "Predictions x̂_0 on the way to the image, side by side or, as GIF and APNG, in turn",
        {form.value: {"schema": BINARY} for form in reversed(FilmFormat)},
    ),
)
async def get_film(
    request: Request,
    status: ResultStatusDep,
    process: ProcessDep,
    index: Index,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    if index >= status.job.answers:
        raise HTTPException(404)
    accept, refusal = request.headers.getlist("accept"), f"A film is {', '.join(FilmFormat)}: accept one of them."
    form = choose_format(", ".join(accept), [*FilmFormat], refusal)
    work = process.renderers.read if form is FilmFormat.WEBP else process.renderers.run
    return await work(lambda: answers.film(status, process.store, index, form, known=if_none_match))


@linked_router.get(
    "/jobs/{job_id}/images/{index}",
    summary="Get one image of a job",
    response_class=Response,
    responses=cached("The image; if it has other than 1 or 3 channels, a picture", {Format.PNG: {"schema": BINARY}}),
)
async def get_image(
    status: ResultStatusDep,
    process: ProcessDep,
    index: Index,
    key: CallerDep,
    if_none_match: IfNoneMatchHeader = None,
    expires: Annotated[int | None, Query(description="end of a signed link, in seconds since the epoch")] = None,
    signature: Annotated[str | None, Query(description="signature of a signed link, instead of an API key")] = None,
) -> Response:
    if index >= status.job.answers:
        raise HTTPException(404)
    response = await process.renderers.read(lambda: answers.image(status, process.store, index, known=if_none_match))
    if key and signature is not None:  # which `LinkGuard` has checked, with `expires`
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
