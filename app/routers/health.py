"""Health and metrics: whether the process lives, whether it can serve, and its counters."""

from anyio import fail_after, to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from redis import RedisError

from jobs.errors import StoreUnavailable
from jobs.redis.workers import WorkerReport

from ..errors import NotUsable, ShuttingDown
from ..requests.deps import Process, ProcessDep

router = APIRouter(tags=["health"])  # needs no API key, so it must tell nothing confidential
metrics_router = APIRouter(tags=["health"])

OPEN_METRICS = "application/openmetrics-text"
READY_SECONDS = 1.5  # probes have short timeouts


class Readiness(BaseModel):
    """The live workers and their models; with API keys only the status. Jobs are accepted even without workers."""

    status: str = "ok"
    workers: int | None = None
    models: list[str] | None = None


@router.get("/healthz", summary="The process lives")
async def health() -> dict[str, str]:
    """Depends on no other service: a restart of this process would not mend Redis."""
    return {"status": "ok"}


@router.get("/readyz", summary="Redis and the store are usable", response_model_exclude_none=True)
async def ready(process: ProcessDep) -> Readiness:
    if process.draining.is_set():
        raise ShuttingDown
    try:
        with fail_after(READY_SECONDS):
            reports = await to_thread.run_sync(_check, process, limiter=process.checkers, abandon_on_cancel=True)
    except RedisError as error:
        raise NotUsable("Redis does not answer.") from error
    except StoreUnavailable as error:
        raise NotUsable("The result store is not writable.") from error
    except TimeoutError as error:
        raise NotUsable("Redis or the result store does not answer in time.") from error
    if process.settings.api_keys_file is not None:
        return Readiness()
    served = {model.name for report in reports for model in report.models if model.ready}
    return Readiness(workers=len(reports), models=sorted(served))


def _check(process: Process) -> list[WorkerReport]:
    reports = process.probe.workers()
    process.store.check()
    return reports


@metrics_router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {OPEN_METRICS: {"schema": {"type": "string"}}}}},
)
def metrics(process: ProcessDep, request: Request) -> Response:
    """Answers in OpenMetrics where the scraper asks for it, as Prometheus does."""
    try:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
    except (TypeError, ValueError):  # a version that is no number
        encode, media_type = choose_encoder("")
    return Response(encode(process.metrics.registry), headers={"Content-Type": media_type, "Vary": "Accept"})
