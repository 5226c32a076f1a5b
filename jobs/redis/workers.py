"""The reports of workers, and the speeds computed from them."""

import time
from collections.abc import Sequence
from typing import Any

import redis
from pydantic import Field, ValidationError

from model.folders.config import Precision

from ..contract import MAX_NUMBER, MAX_SECONDS
from ..values import Reported
from . import keys
from .capped_reads import MAX_REPORT, ask_entries, entries


class ModelReport(Reported):
    """A worker's report on one model."""

    ready: bool  # whether the model is loaded and warm
    sha256: str | None = None
    # the measured image-steps per second with full batches
    rate: float | None = Field(default=None, ge=1 / MAX_NUMBER, le=MAX_NUMBER)
    # the measured time of one step of a single image
    step_seconds: float | None = Field(default=None, ge=0, le=MAX_SECONDS)
    precision: Precision = "float32"  # the number format in which it computes the model
    slow_format: bool = False  # whether its processor has no fast instructions for this format
    reason: str | None = None  # why the worker refuses the model; None if it does not


class WorkerReport(Reported):
    """A worker's report on itself, written every few seconds; `at` is its time in seconds since the epoch."""

    name: str
    at: float
    slots: int
    models: dict[str, ModelReport]


STALE_SECONDS = 15  # without a report, after which a worker does not count; it sends one with each heartbeat


def publish_report(client: redis.Redis, report: WorkerReport) -> None:
    """Publishes the report of a live worker."""
    client.hset(keys.WORKERS, report.name, report.model_dump_json())


def ask_reports(client: Any) -> Any:
    """Sends the command whose answer `read_reports` reads, or adds it to a pipeline."""
    return ask_entries(client, keys.WORKERS, size=MAX_REPORT)


def read_reports(answer: Sequence[bytes]) -> list[WorkerReport]:
    """Returns the reports, without those that are stale or unreadable.

    A report from further ahead than clocks may disagree is stale: it would outlive its worker by as much.
    """
    return [report for report in map(_live, entries(answer).values()) if report is not None]


def _live(value: bytes) -> WorkerReport | None:
    try:
        report = WorkerReport.model_validate_json(value)
    except ValidationError:
        return None
    return report if abs(time.time() - report.at) <= STALE_SECONDS else None


def live_reports(client: redis.Redis) -> list[WorkerReport]:
    """Reads the reports of the live workers."""
    return read_reports(ask_reports(client))


def prune_reports(client: redis.Redis) -> None:
    """Removes the reports that are stale or unreadable."""
    gone = [name for name, value in entries(ask_reports(client)).items() if _live(value) is None]
    if gone:
        client.hdel(keys.WORKERS, *gone)


def reports_for(model: str, reports: list[WorkerReport]) -> list[ModelReport]:
    """Returns the reports of the live workers on one model."""
    return [report.models[model] for report in reports if model in report.models]


def total_rate(model: str, reports: list[WorkerReport]) -> float | None:
    """Returns the image-steps per second of all live workers for one model; None if none has measured it."""
    rates = [report.rate for report in reports_for(model, reports) if report.ready and report.rate]
    return sum(rates) or None


def lone_job_seconds(model: str, reports: list[WorkerReport], *, image_steps: int, images: float) -> float | None:
    """Returns the seconds that a job takes alone on the fastest worker; None if none has measured its speed.

    Full batches have the worker's rate, and no image is faster than a single image. `images` step side by side.
    """
    times = [
        max(image_steps / report.rate, image_steps / images * (report.step_seconds or 0.0))
        for report in reports_for(model, reports)
        if report.ready and report.rate
    ]
    return min(times, default=None)
