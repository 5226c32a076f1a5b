"""The dependencies of the routes, each with an alias."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict, get_args, get_origin

from anyio import CapacityLimiter
from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from jobs.catalog import Catalog, CatalogFollower
from jobs.contract import JOB_ID, JobStatus
from jobs.errors import JobNotFound
from jobs.redis.queue import JobQueue
from jobs.store.result_store import ResultStore

from ..errors import InvalidRequest
from ..http.api_keys import ApiKey
from ..http.headers import IdempotencyKeyHeader, PreferHeader, PriorityHeader
from ..http.metrics import Metrics
from ..http.negotiation import Accept, Preference, choose_format, read_idempotency_key, read_preference, read_urgency
from ..http.problems import MAX_NAME
from ..settings import ApiSettings
from .render_threads import Renderers
from .uploads import Uploads
from .watching import Watcher


class State(TypedDict):
    """The objects that live as long as the process, from `app.main`; and two facts about each request.

    `Guard` sets `caller`. `RequestMiddleware` sets `is_head`, because HEAD requests come as GET.
    """

    caller: ApiKey | None
    is_head: bool
    settings: ApiSettings
    metrics: Metrics
    follower: CatalogFollower
    queue: JobQueue
    probe: JobQueue  # with a timeout of a fraction of a second
    store: ResultStore
    checkers: CapacityLimiter
    uploads: Uploads
    renderers: Renderers
    watcher: Watcher
    draining: asyncio.Event


def _from_state(name: str) -> Callable[[Request], Awaitable[Any]]:
    # async, because FastAPI would run a plain function in a thread.
    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return get


async def _catalog(request: Request) -> Catalog:
    follower: CatalogFollower = request.state.follower
    return follower.catalog


CallerDep = Annotated[ApiKey | None, Depends(_from_state("caller"))]
SettingsDep = Annotated[ApiSettings, Depends(_from_state("settings"))]
MetricsDep = Annotated[Metrics, Depends(_from_state("metrics"))]
CatalogDep = Annotated[Catalog, Depends(_catalog)]
QueueDep = Annotated[JobQueue, Depends(_from_state("queue"))]
ProbeDep = Annotated[JobQueue, Depends(_from_state("probe"))]
StoreDep = Annotated[ResultStore, Depends(_from_state("store"))]
CheckersDep = Annotated[CapacityLimiter, Depends(_from_state("checkers"))]
UploadsDep = Annotated[Uploads, Depends(_from_state("uploads"))]
RenderersDep = Annotated[Renderers, Depends(_from_state("renderers"))]
WatcherDep = Annotated[Watcher, Depends(_from_state("watcher"))]
DrainingDep = Annotated[asyncio.Event, Depends(_from_state("draining"))]


async def _status(job_id: str, request: Request) -> JobStatus:
    """Returns where one of the caller's jobs stands; jobs of other owners count as unknown."""
    # This is the most frequent request, so it has no dependencies that FastAPI would resolve each time.
    queue: JobQueue = request.state.queue
    caller: ApiKey | None = request.state.caller
    if not re.fullmatch(JOB_ID, job_id):
        raise JobNotFound
    status = await run_in_threadpool(queue.status, job_id)
    if status.job.owner != (caller and caller.name):
        raise JobNotFound
    return status


StatusDep = Annotated[JobStatus, Depends(_status)]


async def _accept(request: Request) -> Accept:
    """Returns the Accept header; refuses one that no images could satisfy before anything else is read."""
    header = ", ".join(request.headers.getlist("accept"))
    choose_format(header)
    return Accept(header)


async def _preference(request: Request, settings: SettingsDep, prefer: PreferHeader = None) -> Preference:
    return read_preference(", ".join(request.headers.getlist("prefer")), longest=settings.sync_wait)


async def _urgency(request: Request, priority: PriorityHeader = None) -> int:
    return read_urgency(", ".join(request.headers.getlist("priority")))


AcceptDep = Annotated[Accept, Depends(_accept)]
PreferenceDep = Annotated[Preference, Depends(_preference)]
UrgencyDep = Annotated[int, Depends(_urgency)]


async def _idempotency_key(request: Request, idempotency_key: IdempotencyKeyHeader = None) -> str | None:
    sent = request.headers.getlist("idempotency-key")
    if not sent:
        return None
    key = read_idempotency_key(sent[0]) if len(sent) == 1 else None
    if key is None:
        detail = "Input should be one key of 1 to 255 printable ASCII characters, preferably in quotation marks"
        raise InvalidRequest("header", "Idempotency-Key", detail)
    return key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


def single_parameters(query: type[BaseModel]) -> Any:
    """Returns a dependency that refuses repeated parameters, except lists; FastAPI would silently use the last one."""

    def is_list(annotation: Any) -> bool:
        return get_origin(annotation) is list or any(map(is_list, get_args(annotation)))

    lists = {field.alias or name for name, field in query.model_fields.items() if is_list(field.annotation)}

    async def refuse_repeated(request: Request) -> None:
        counts = Counter(name for name, _ in request.query_params.multi_items() if name not in lists)
        for name, count in counts.items():
            if count > 1:
                raise InvalidRequest("parameter", name[:MAX_NAME], f"Input should be given once, not {count} times")

    return Depends(refuse_repeated)
