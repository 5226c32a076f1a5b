"""Health and metrics: whether the process lives, whether it can serve, and its counters."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from redis import RedisError
from starlette.concurrency import run_in_threadpool

from ..errors import ShuttingDown
from ..requests.deps import CallerDep, Process, ProcessDep

router = APIRouter(tags=["health"])  # needs no API key, so it must say nothing confidential
metrics_router = APIRouter(tags=["health"])

Verbose = Annotated[str | None, Query(description="adds the state of Redis, store, workers and the models' address")]


class Readiness(BaseModel):
    """Whether this process serves; with `verbose` also what stands behind it, on which readiness does not depend."""

    status: Literal["ok"] = "ok"
    redis: Literal["ok", "full", "away"] | None = None
    store: Literal["ok", "away"] | None = None
    address: Literal["ok", "away"] | None = None
    workers: int | None = None
    models: list[str] | None = None


@router.get("/healthz", summary="The process lives")
async def health() -> dict[str, str]:
    """Depends on no other service: a restart of this process would not mend Redis."""
    return {"status": "ok"}


@router.get("/readyz", summary="The process serves", response_model_exclude_none=True)
async def ready(process: ProcessDep, verbose: Verbose = None) -> Readiness:
    """Depends on no other service, so that not all front ends leave their balancer at once."""
    if process.draining.is_set():
        raise ShuttingDown
    return Readiness() if verbose is None else await run_in_threadpool(_look, process)


def _look(process: Process) -> Readiness:
    found = Readiness(store="ok" if process.probe.takes_files() else "away")
    if process.mirror is not None:
        found.address = "ok" if process.mirror.trouble is None else "away"
    try:
        found.redis = "ok" if process.queue.health().takes_writes else "full"
        reports = process.queue.workers()
    except RedisError:
        found.redis = "away"
        return found
    if process.settings.api_keys_file is None:
        found.workers = len(reports)
        found.models = sorted({model.name for report in reports for model in report.models if model.held})
    return found


@metrics_router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
def metrics(process: ProcessDep, key: CallerDep) -> Response:
    text = generate_latest(process.metrics.registry)
    if key is None or key.is_operator:
        text += generate_latest(process.metrics.of_keys)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
