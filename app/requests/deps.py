"""The dependencies of the routes, each with an alias."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypedDict, get_args, get_origin

from anyio import CapacityLimiter
from fastapi import Depends, Request
from pydantic import BaseModel
from redis import RedisError
from starlette.concurrency import run_in_threadpool

from difuso.jobs.catalog import Catalog, CatalogFollower
from difuso.jobs.contract import JOB_ID
from difuso.jobs.errors import JobNotFound
from difuso.jobs.mirror import Mirror
from difuso.jobs.redis.events import Listener
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.status import JobStatus
from difuso.jobs.redis.usage import UsageRecords
from difuso.jobs.store.result_store import ResultStore
from difuso.jobs.trainings.datasets import Datasets
from difuso.jobs.trainings.records import Trainings
from difuso.jobs.trainings.states import TrainingFiles

from ..errors import InvalidRequest
from ..http.api_keys import ApiKey, may_see
from ..http.headers import Accept
from ..http.metrics import Metrics
from ..http.problems import MAX_NAME
from ..settings import ApiSettings
from ..store_access import Renderers, StoreProbe
from .dataset_uploads import DatasetUploads
from .uploads import Uploads
from .watching import Watcher
from .webhooks import WebhookCaller


@dataclass(frozen=True)
class Process:
    """The objects that live as long as the process, from `app.main`."""

    settings: ApiSettings
    metrics: Metrics
    follower: CatalogFollower
    mirror: Mirror | None
    queue: JobQueue
    usage: UsageRecords
    store: ResultStore
    probe: StoreProbe
    listers: CapacityLimiter
    uploads: Uploads
    dataset_uploads: DatasetUploads
    datasets: Datasets
    trainings: Trainings
    training_files: TrainingFiles
    renderers: Renderers
    listener: Listener
    watcher: Watcher
    webhooks: WebhookCaller
    draining: asyncio.Event

    @property
    def catalog(self) -> Catalog:
        return self.follower.catalog


class State(TypedDict):
    """The state of each request: its process, and two facts about it.

    `Guard` sets `caller`. `RequestMiddleware` sets `is_head`, because HEAD requests come as GET.
    """

    process: Process
    caller: ApiKey | None
    is_head: bool


# async, because FastAPI would run plain functions in a thread.
async def _process(request: Request) -> Process:
    process: Process = request.state.process
    return process


async def _caller(request: Request) -> ApiKey | None:
    caller: ApiKey | None = request.state.caller
    return caller


ProcessDep = Annotated[Process, Depends(_process)]
CallerDep = Annotated[ApiKey | None, Depends(_caller)]


async def _status(job_id: str, request: Request) -> JobStatus:
    """Returns where a job stands that the caller may see; all others count as unknown."""
    # This is the most frequent request, so it has no dependencies that FastAPI would resolve each time.
    process: Process = request.state.process
    caller: ApiKey | None = request.state.caller
    if not re.fullmatch(JOB_ID, job_id):
        raise JobNotFound
    status = await run_in_threadpool(process.queue.status, job_id)
    return _checked(status, caller)


async def _result_status(job_id: str, request: Request) -> JobStatus:
    """Returns like `_status` where a job stands; while Redis does not answer, by its result, if the store has one."""
    try:
        return await _status(job_id, request)
    except RedisError:
        process: Process = request.state.process
        manifest = await process.renderers.read(lambda: process.store.manifest(job_id))
        if manifest is None:  # it is unfinished, has no images or was deleted: only Redis knows
            raise
        process.metrics.redis_errors.labels(request.scope["route"].name).inc()
        return _checked(process.queue.status_of_result(manifest), request.state.caller)


def _checked(status: JobStatus, caller: ApiKey | None) -> JobStatus:
    if not may_see(caller, status.job.owner):
        raise JobNotFound
    return status


StatusDep = Annotated[JobStatus, Depends(_status)]
ResultStatusDep = Annotated[JobStatus, Depends(_result_status)]


def read_accept(request: Request) -> Accept:
    """Returns the Accept header; refuses one that no images could satisfy before anything else is read."""
    accept = Accept(", ".join(request.headers.getlist("accept")))
    accept.choose()
    return accept


async def _accept(request: Request) -> Accept:
    return read_accept(request)


AcceptDep = Annotated[Accept, Depends(_accept)]


@cache
def list_parameters(query: type[BaseModel]) -> frozenset[str]:
    """Returns the names of the parameters that may be repeated."""

    def is_list(annotation: Any) -> bool:
        return get_origin(annotation) in (list, Mapping) or any(map(is_list, get_args(annotation)))

    return frozenset(field.alias or name for name, field in query.model_fields.items() if is_list(field.annotation))


def refuse_repeated(query: type[BaseModel], texts: Iterable[tuple[str, str]]) -> None:
    """Raises InvalidRequest if a parameter is repeated that is no list."""
    lists = list_parameters(query)
    for name, count in Counter(name for name, _ in texts if name not in lists).items():
        if count > 1:
            raise InvalidRequest("parameter", name[:MAX_NAME], f"Input should be given once, not {count} times")


def single_parameters(query: type[BaseModel]) -> Any:
    """Returns a dependency that refuses repeated parameters; FastAPI would silently use the last one."""

    async def refuse(request: Request) -> None:
        refuse_repeated(query, request.query_params.multi_items())

    return Depends(refuse)
