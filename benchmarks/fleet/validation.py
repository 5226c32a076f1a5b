"""What the simulation says of one and two workers, beside what real ones do with the same requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from benchmarks import stack
from benchmarks.load import MEAN_IMAGE_STEPS, Order, fetch, mix, poisson, saturate, send_open
from benchmarks.report import Report, quantile, say, show

from .rates import Rates
from .redis_acts import read
from .simulation import Setup
from .trial import Span, saturated_rate, try_orders

CLIENTS = 16
PATIENCE = 120.0
PROBES = (Order(1, 10, seed=7), Order(4, 10, seed=8))
LOAD = 0.7


def validate(model: Path, rates: Rates, report: Report, *, cores: int, seconds: float, seed: int) -> None:
    """Runs the mix through real stacks of one and of two workers, and prints the predictions beside."""
    found, rows = {}, []
    for workers in (1, 2):
        threads = max(1, cores // workers)
        steps = rates.cpu if workers == 1 else rates.lone_core or rates.cpu
        setup = Setup(steps, workers, delays=rates.delays, redis=rates.redis, max_wait=1e5)
        predicted_rate = saturated_rate(setup, clients=CLIENTS, seed=seed)
        orders = poisson(LOAD * predicted_rate / MEAN_IMAGE_STEPS, seconds, seed)
        predicted = _predict(setup, orders, seconds) | {"image_steps_per_second": predicted_rate}
        say(f"validation: {workers} real workers of {threads} threads, {len(orders)} requests in {seconds:.0f} s")
        measured = _measure(model, orders, workers, threads, seconds=seconds, seed=seed)
        found[f"{workers} workers"] = {"predicted": predicted, "measured": measured}
        report.add("validation", found)
        rows += [
            (f"{workers}, {what}", *_row(each)) for what, each in (("predicted", predicted), ("measured", measured))
        ]
    headings = ("workers", "image-steps/s", "short p50 s", "p95", "long p50 s", "p95", "Redis CPU %", "errors")
    show(f"the mix at {LOAD} of the predicted capacity, {seconds:.0f} s", headings, rows)


def _predict(setup: Setup, orders: list[Order], seconds: float) -> dict[str, Any]:
    figures = try_orders(setup, orders, Span(0.0, seconds, seconds + PATIENCE))
    return {"short": dict(figures.short), "long": dict(figures.long), "redis": figures.redis}


def _measure(
    model: Path, orders: list[Order], workers: int, threads: int, *, seconds: float, seed: int
) -> dict[str, Any]:
    environment = {"OMP_NUM_THREADS": str(threads)}
    with stack.difuso(model, workers=workers, environment=environment) as difuso:
        for order in PROBES * workers:
            asyncio.run(fetch(difuso, order, timeout=PATIENCE))
        with redis.Redis.from_url(difuso.redis_url) as client:
            before, begun = read(client), time.monotonic()
            outcomes = asyncio.run(send_open(difuso, orders, patience=PATIENCE))
            share = read(client).since(before).seconds / (time.monotonic() - begun)
        rate, _ = asyncio.run(saturate(difuso, mix(seed), clients=CLIENTS, seconds=seconds / 2, patience=PATIENCE))
    kinds: dict[str, Mapping[str, float]] = {}
    for kind, short in (("short", True), ("long", False)):
        waits = [each.ended - each.began for each in outcomes if each.order.is_short is short]
        kinds[kind] = {"p50": quantile(waits, 0.5), "p95": quantile(waits, 0.95)}
    errors = [each.error for each in outcomes if each.error is not None]  # they count with the time that they waited
    return {**kinds, "redis": share, "image_steps_per_second": rate, "errors": errors}


def _row(figures: Mapping[str, Any]) -> tuple[float, ...]:
    short, long = figures["short"], figures["long"]
    return (
        figures["image_steps_per_second"],
        *(short["p50"], short["p95"], long["p50"], long["p95"]),
        100 * figures["redis"],
        len(figures.get("errors", ())),
    )
