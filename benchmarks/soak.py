"""A long run of mixed jobs: does memory stay flat?"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from .idle import resident, slope
from .load import LIMITS, Order, mix
from .report import say
from .stack import Difuso

CLIENTS = 4
SAMPLE_SECONDS = 10.0
SETTLED = 0.25  # of the time, until caches have their size


def soak(difuso: Difuso, minutes: float) -> dict[str, Any]:
    """Resident MB of API and worker under load: first, last, and growth in MB an hour after the first quarter."""
    samples, jobs = asyncio.run(_run(difuso, 60 * minutes))
    figures: dict[str, Any] = {"minutes": minutes, "jobs": jobs}
    for process in ("api", "worker"):
        course = [(at, values[process]) for at, values in samples]
        settled = course[int(SETTLED * len(course)) :]
        figures[process] = {
            "first_mb": course[0][1],
            "last_mb": course[-1][1],
            "mb_per_hour": 3600 * slope(settled),
            "mb": [round(value, 1) for _, value in course],
        }
    return figures


async def _run(difuso: Difuso, seconds: float) -> tuple[list[tuple[float, dict[str, float]]], int]:
    begin = time.monotonic()
    orders = mix(seed=0)
    done = 0
    samples = []

    async def client_loop(client: httpx.AsyncClient) -> None:
        nonlocal done
        while True:
            await _complete(client, next(orders))
            done += 1

    async with httpx.AsyncClient(base_url=difuso.url, limits=LIMITS, timeout=300) as client:
        tasks = [asyncio.create_task(client_loop(client)) for _ in range(CLIENTS)]
        told = begin
        while (now := time.monotonic()) < begin + seconds:
            samples.append((now - begin, resident(difuso)))
            failed = next((task for task in tasks if task.done()), None)
            if failed is not None:
                failed.result()
            if now > told + 300:
                told = now
                say(f"soak: {(now - begin) / 60:.0f} minutes, {done} jobs, {samples[-1][1]}")
            await asyncio.sleep(min(SAMPLE_SECONDS, begin + seconds - now))
        samples.append((time.monotonic() - begin, resident(difuso)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return samples, done


async def _complete(client: httpx.AsyncClient, order: Order) -> None:
    parameters = {"n": order.n, "steps": order.steps, "seed": order.seed}
    (await client.post("/generate", params=parameters)).raise_for_status()
