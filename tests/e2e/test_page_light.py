"""The first visit of the page on a slow line: its bytes, and the seconds until its form can be used; and polling."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.serving import ENVIRONMENT, Difuso, running
from tests.studio import Studio
from tests.waiting import wait_until

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[2] / "checkpoints"
MOST_BYTES = 350_000  # of a first visit, with the pictures of all tiles
MOST_SECONDS = 6.0
LINE = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}  # 400 kbit/s
FAST = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
READY = "const now = performance.now(); return document.querySelector('#form [type=submit]:enabled') ? now : 0"
SEEN = "return [...document.querySelectorAll('#gallery .tile .samples')].filter(each => new Set(each.getContext('2d')"
SEEN += ".getImageData(0, 0, each.width, each.height).data).size > 2).length"


@pytest.fixture(scope="module")
def shipped(redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Difuso]:
    """Serves the models that come with difuso, to nobody yet."""
    with running(tmp_path_factory.mktemp("shipped"), ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(SHIPPED)}) as difuso:
        yield difuso


def received(driver: webdriver.Chrome) -> Counter[str]:
    """Returns the bytes on the way by address, with the headers of answers."""
    script = "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
    script += ".map(each => [each.name.replace(location.origin, ''), each.transferSize])"
    found: Counter[str] = Counter()
    for name, size in driver.execute_script(script):
        found[name] += size
    return found


@pytest.fixture
def first_visit(driver: webdriver.Chrome, shipped: Difuso) -> Iterator[Studio]:
    """The page on a slow line, opened by a browser that has nothing of it."""
    studio = Studio(driver, shipped.url, "desktop")
    driver.get(f"{shipped.url}/static/icon.svg")
    driver.execute_script("localStorage.setItem('difuso-language', 'en')")
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", LINE)
    try:
        driver.get(f"{shipped.url}/")
        yield studio
    finally:
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", FAST)


@pytest.mark.slow
def test_a_first_visit_is_light(first_visit: Studio) -> None:
    driver = first_visit.driver
    models = len(list(SHIPPED.glob("*/config.json")))
    wait_until(lambda: driver.execute_script(SEEN) == models, 60, "every tile shows pictures")
    found = received(driver)
    log.info(f"{found.total()} bytes, {len(found)} requests")
    assert not [name for name in found if "figures/sheet" in name]
    assert found.total() <= MOST_BYTES, found.most_common(4)
    driver.execute_script("performance.clearResourceTimings()")
    script = "return performance.getEntriesByType('resource').filter(each => each.name.includes('/jobs?')).length"
    wait_until(lambda: driver.execute_script(script) >= 2, 60, "the page has looked at the list twice")
    looks = [size for name, size in received(driver).items() if name.startswith("/jobs?")]
    assert max(looks) < 1000, "which has not changed"
    assert first_visit.errors() == []


@pytest.mark.long
def test_the_form_of_a_first_visit_is_soon_usable(first_visit: Studio) -> None:
    wait_until(lambda: first_visit.driver.execute_script(READY), 60, "the button can be pressed")
    assert first_visit.driver.execute_script(READY) / 1000 <= MOST_SECONDS
