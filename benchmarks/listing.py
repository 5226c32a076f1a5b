"""Many finished jobs: how long a page of their list takes, and whether they slow new jobs down."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from . import machine, stack
from .models import TINY, random_model
from .report import Bar, Report, quantile, say, show
from .stack import Difuso

CLIENTS = 16
PART = 1000  # jobs between two looks at the rate
PAGES = 30
RARE = 500  # every so many jobs have the rare tag
QUERIES: Mapping[str, dict[str, Any]] = {
    "20 jobs": {},
    "100 jobs": {"limit": 100},
    "20 jobs of a rare tag": {"tag": "rare"},
    "none: failed jobs": {"state": "failed"},
}


def main(
    jobs: Annotated[int, typer.Option(help="Finished jobs.")] = 10_000,
    cores: Annotated[int, typer.Option(min=1, help="That everything shares.")] = 2,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-listing.json"),
) -> None:
    """Makes so many jobs of one step, and then reads pages of their list; about four minutes."""
    machine.warn_if_busy()
    machine.use_cores(cores)
    report = Report(out, {"jobs": jobs})
    with tempfile.TemporaryDirectory() as folder, stack.difuso(random_model(Path(folder) / "tiny", TINY)) as difuso:
        rates = asyncio.run(make_jobs(difuso, jobs))
        report.add("jobs_per_second", rates)
        show("new jobs of one step", ("jobs before", "jobs/s"), [(PART * i, rate) for i, rate in enumerate(rates)])
        measure_pages(difuso, report)
    if len(rates) > 1:
        report.bar(Bar("rate of the last thousand jobs beside the second", rates[-1] / rates[1], 0.9, "", "at least"))
    report.close()


def measure_pages(difuso: Difuso, report: Report) -> None:
    """Milliseconds of the pages of each query, which follow one another."""
    found = {name: [1000 * each for each in page_seconds(difuso, query)] for name, query in QUERIES.items()}
    report.add("page_ms", found)
    rows = [(name, statistics.median(times), quantile(times, 0.95), len(times)) for name, times in found.items()]
    show("GET /jobs, ms", ("page", "median", "p95", "pages"), rows)
    report.bar(Bar("a page, median of the slowest query", max(row[1] for row in rows), 20, "ms", "at most"))


async def make_jobs(difuso: Difuso, count: int) -> list[float]:
    """Has so many jobs done; returns the jobs a second of each thousand."""
    rates = []

    async def work(client: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        for number in numbers:
            parameters: dict[str, str | int] = {"steps": 1, "seed": number}
            if number % RARE == 0:
                parameters["tag"] = "rare"
            (await client.post("/generate", params=parameters)).raise_for_status()

    async with httpx.AsyncClient(base_url=difuso.url, timeout=60) as client:
        for last in range(PART, count + 1, PART):
            say(f"{last} jobs")
            began = time.perf_counter()
            numbers = iter(range(last - PART, last))
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(work(client, numbers))
            rates.append(PART / (time.perf_counter() - began))
    return rates


def page_seconds(difuso: Difuso, query: Mapping[str, Any]) -> Iterator[float]:
    """Yields the time of each of PAGES pages, from the first on; a list that ends begins again."""
    cursor: dict[str, str] = {}
    with httpx.Client(base_url=difuso.url, timeout=30) as client:
        for _ in range(PAGES):
            began = time.perf_counter()
            answer = client.get("/jobs", params={**query, **cursor}).raise_for_status()
            yield time.perf_counter() - began
            following = answer.json().get("next")
            cursor = {} if following is None else {"cursor": following}


if __name__ == "__main__":
    typer.run(main)
