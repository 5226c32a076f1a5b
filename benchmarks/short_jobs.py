"""Jobs of one step: what a job costs in addition to its network call, in processor time and in waiting."""

from __future__ import annotations

import asyncio
import itertools
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from . import idle, stack
from .load import Order, Outcome, saturate
from .report import Bar, Report, quantile, say, show
from .serving import CLIENTS, NAMES, PATIENCE_SECONDS, Contest, share_cores
from .stack import Difuso, System

CPU_SECONDS = re.compile(r"^process_cpu_seconds_total (\S+)$", re.MULTILINE)
ALONE_COUNT = 100


def measure(model: Path, seconds: float, cores: int, report: Report) -> None:
    """Compares jobs of one step at difuso and two other servers, each for `seconds`, and measures a lone one."""
    share_cores(cores)
    compare_rates(Contest(model), seconds, report)
    measure_alone(model, report)


def compare_rates(contest: Contest, seconds: float, report: Report) -> None:
    """Measures the jobs a second by server, with more clients than any server can answer at once."""
    found: dict[str, Any] = {}
    for name in NAMES:
        say(f"{name}: jobs of one step, {seconds:.0f} s")
        with contest.open(name) as system:
            found[name] = _rate(system, seconds)
        report.add("one_step_jobs", found)
    headings = ("server", "jobs/s", "p50 ms", "p95 ms", "API ms/job", "worker ms/job", "errors")
    columns = ("rate", "p50_ms", "p95_ms", "api_cpu_ms", "worker_cpu_ms", "errors")
    rows = [(name, *(figures.get(column, "") for column in columns)) for name, figures in found.items()]
    show(f"jobs of one step, {CLIENTS} clients", headings, rows)
    best = max(figures["rate"] for name, figures in found.items() if name != "difuso")
    ratio = found["difuso"]["rate"] / best
    report.bar(Bar("jobs of one step against the best peer's", ratio, 1, "times", "at least"))


def measure_alone(model: Path, report: Report) -> None:
    """Measures one job of one step on an idle server, and the milliseconds that it takes over its network call."""
    with stack.difuso(model, workers=None) as difuso:
        served = [1000 * each for each in idle.image_seconds(difuso, steps=1, count=ALONE_COUNT)]
    bare = 1000 * statistics.median(idle.network_seconds(model, calls=25, count=5)) / 25
    median, p95 = statistics.median(served), quantile(served, 0.95)
    report.add("one_step_alone_ms", {"median": median, "p95": p95, "network": bare})
    show("one job of one step alone, ms", ("", "median", "p95", "network call"), [("", median, p95, bare)])
    report.bar(Bar("one job of one step alone, over its network call", median - bare, 20, "ms", "at most"))


def orders() -> Iterator[Order]:
    """Yields requests of one image and one step without end."""
    return (Order(1, 1, seed) for seed in itertools.count())


def _rate(system: System, seconds: float) -> dict[str, Any]:
    asyncio.run(saturate(system, orders(), clients=CLIENTS, seconds=2, patience=PATIENCE_SECONDS))
    before = _cpu_seconds(system)
    rate, outcomes = asyncio.run(
        saturate(system, orders(), clients=CLIENTS, seconds=seconds, patience=PATIENCE_SECONDS)
    )
    answered = [outcome for outcome in outcomes if outcome.error is None]
    spent = {name: 1000 * (after - before[name]) / len(answered) for name, after in _cpu_seconds(system).items()}
    waits = [1000 * _seconds(outcome) for outcome in answered]
    return {
        "rate": rate,
        "p50_ms": quantile(waits, 0.5),
        "p95_ms": quantile(waits, 0.95),
        "errors": len(outcomes) - len(answered),
        **spent,
    }


def _seconds(outcome: Outcome) -> float:
    return outcome.ended - outcome.began


def _cpu_seconds(system: System) -> dict[str, float]:
    """Returns the processor time that our processes report; nothing for a peer, and nothing except on Linux."""
    if not isinstance(system, Difuso):
        return {}
    pages = {"api_cpu_ms": f"{system.url}/metrics", "worker_cpu_ms": system.metrics_url}
    found = {name: CPU_SECONDS.search(httpx.get(url).raise_for_status().text) for name, url in pages.items()}
    return {name: float(match[1]) for name, match in found.items() if match}
