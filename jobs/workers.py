"""What workers say of themselves, and what can be concluded from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis
from pydantic import ValidationError

from . import keys
from .bounded import MAX_REPORT, ask_entries, entries
from .contract import ModelReport, WorkerReport

REPORT_SECONDS = 5
STALE_SECONDS = 3 * REPORT_SECONDS


def publish_report(client: redis.Redis, report: WorkerReport) -> None:
    """Says that this worker lives and what it can do."""
    client.hset(keys.WORKERS, report.name, report.model_dump_json())


def withdraw_report(client: redis.Redis, name: str) -> None:
    """Says that this worker is gone."""
    client.hdel(keys.WORKERS, name)


def ask_reports(pipe: Any) -> None:
    """Adds the command to a pipeline whose answer `read_reports` takes."""
    ask_entries(pipe, keys.WORKERS, size=MAX_REPORT)


def read_reports(answer: Sequence[bytes]) -> list[WorkerReport]:
    """The reports, without those that are stale or of a version that cannot be read."""
    return [report for report in map(_live, entries(answer).values()) if report is not None]


def _live(value: bytes) -> WorkerReport | None:
    try:
        report = WorkerReport.model_validate_json(value)
    except ValidationError:
        return None
    return report if report.at >= time.time() - STALE_SECONDS else None


def live_reports(client: redis.Redis) -> list[WorkerReport]:
    """What the live workers say."""
    return read_reports(_all_reports(client))


def _all_reports(client: redis.Redis) -> Sequence[bytes]:
    with client.pipeline(transaction=False) as pipe:
        ask_reports(pipe)
        (answer,) = pipe.execute()
    found: Sequence[bytes] = answer
    return found


def prune_reports(client: redis.Redis) -> None:
    """Forgets workers that have been silent for long."""
    gone = [name for name, value in entries(_all_reports(client)).items() if _live(value) is None]
    if gone:
        client.hdel(keys.WORKERS, *gone)


def reports_for(model: str, reports: list[WorkerReport]) -> list[ModelReport]:
    """What the live workers say of one model."""
    return [report.models[model] for report in reports if model in report.models]


def total_rate(model: str, reports: list[WorkerReport]) -> float | None:
    """Image-steps per second that all live workers together make of one model; None if none has measured it."""
    rates = [report.rate for report in reports_for(model, reports) if report.ready and report.rate]
    return sum(rates) or None


def lone_step_seconds(model: str, reports: list[WorkerReport]) -> float:
    """Seconds that one step of a lone image takes on the fastest worker; 0 if none has measured it."""
    return min((report.step_seconds for report in reports_for(model, reports) if report.step_seconds), default=0.0)
