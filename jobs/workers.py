"""What workers say of themselves, and what can be concluded from it."""

from __future__ import annotations

import time
from collections.abc import Iterable

import redis
from rq.utils import as_text

from . import keys
from .contract import ModelReport, WorkerReport

REPORT_SECONDS = 5
STALE_SECONDS = 3 * REPORT_SECONDS


def publish_report(client: redis.Redis, report: WorkerReport) -> None:
    """Says that this worker lives and what it can do."""
    client.hset(keys.WORKERS, report.name, report.model_dump_json())


def withdraw_report(client: redis.Redis, name: str) -> None:
    """Says that this worker is gone."""
    client.hdel(keys.WORKERS, name)


def live_workers(client: redis.Redis) -> list[WorkerReport]:
    """The reports of the last STALE_SECONDS."""
    return parse_reports(client.hvals(keys.WORKERS))


def parse_reports(values: Iterable[bytes | str]) -> list[WorkerReport]:
    """Decodes reports and leaves out the stale ones."""
    reports = [WorkerReport.model_validate_json(value) for value in values]
    oldest = time.time() - STALE_SECONDS
    return [report for report in reports if report.at >= oldest]


def prune_reports(client: redis.Redis) -> None:
    """Forgets workers that have been silent for long."""
    live = {report.name for report in live_workers(client)}
    gone = [name for name in client.hkeys(keys.WORKERS) if as_text(name) not in live]
    if gone:
        client.hdel(keys.WORKERS, *gone)


def reports_for(model: str, reports: list[WorkerReport]) -> list[ModelReport]:
    """What the live workers say of one model."""
    return [report.models[model] for report in reports if model in report.models]


def total_rate(model: str, reports: list[WorkerReport]) -> float | None:
    """Image-steps per second that all live workers together make of one model; None if none has measured it."""
    rates = [report.rate for report in reports_for(model, reports) if report.ready and report.rate]
    return sum(rates) or None
