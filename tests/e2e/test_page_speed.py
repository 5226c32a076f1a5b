"""The page with 2,000 jobs: the cost of scrolling, and what stays in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver

from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker, running
from tests.studio import Studio

log = logging.getLogger(__name__)

JOBS = 2000
FRAME = 0.05  # seconds of work of the page's thread
SCREEN = 800  # pixels


@pytest.fixture
def url(redis_url: str, models_dir: Path, tmp_path: Path) -> Iterator[str]:
    """A server with 2,000 jobs of four pictures that have ended."""
    settings = ApiSettings(
        redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"), max_jobs=2 * JOBS
    )
    worker = FakeWorker(settings)
    with running(settings) as client:
        for seed in range(JOBS):
            job = client.post(f"/generate?n=4&steps=1&seed={seed}", headers={"Prefer": "respond-async"}).json()
            worker.succeed(job["id"])
        yield str(client.base_url).rstrip("/")
    worker.client.close()


STEP = """
const [pixels, done] = arguments;
scrollBy(0, pixels);
requestAnimationFrame(() => requestAnimationFrame(() => done(document.querySelectorAll("#jobs > article").length)));
"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_thousand_jobs_scroll_smoothly_and_memory_stays_flat(driver: webdriver.Chrome, url: str) -> None:
    """The page's thread works less than 50 ms for any screen; the rest holds neither elements nor pictures."""
    assert len(httpx.get(f"{url}/jobs?limit=100").json()["jobs"]) == 100
    studio = Studio(driver, url, "desktop")
    studio.open()
    # The time of the thread itself: others on this machine do not count.
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def measured() -> dict[str, float]:
        found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {each["name"]: each["value"] for each in found}

    def settled() -> tuple[float, float]:
        driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        now = measured()
        return now["JSHeapUsedSize"] / 2**20, now["Nodes"]

    costs, listed, memory = [], 0, {}
    while listed < JOBS:
        before = measured()["TaskDuration"]
        listed = driver.execute_async_script(STEP, SCREEN)
        costs.append(measured()["TaskDuration"] - before)
        mark = listed // 500 * 500
        if mark and mark not in memory:
            memory[mark] = settled()
    costs.sort()
    median, worst = costs[len(costs) // 2], costs[-1]
    images = driver.execute_script("return document.images.length")
    log.info(
        f"{len(costs)} screens; median {median * 1000:.1f} ms, worst {worst * 1000:.1f} ms; {images} images in the end"
    )
    log.info({mark: f"{heap:.1f} MiB, {nodes:.0f} nodes" for mark, (heap, nodes) in memory.items()})
    assert worst < FRAME
    assert images < 200
    (first, first_nodes), (last, last_nodes) = memory[500], memory[JOBS]
    assert last - first < 12  # MiB; each job itself is 2 kB of text
    assert last_nodes - first_nodes < 3 * JOBS
