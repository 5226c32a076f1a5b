"""The first visit of the page on a slow line: its bytes, and the seconds until its form can be used; and polling."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.serving import ENVIRONMENT, Difuso, running
from tests.studio import Studio
from tests.waiting import wait_until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.slow

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


def test_a_first_visit_is_light_and_its_form_is_soon_usable(driver: webdriver.Chrome, shipped: Difuso) -> None:
    studio = Studio(driver, shipped.url, "desktop")
    driver.get(f"{shipped.url}/static/icon.svg")
    driver.execute_script("localStorage.setItem('difuso-language', 'en')")
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", LINE)
    try:
        driver.get(f"{shipped.url}/")
        seconds = 0.0

        def is_ready() -> bool:
            nonlocal seconds
            seconds = float(driver.execute_script(READY)) / 1000
            return seconds > 0

        wait_until(is_ready, 60, "the button can be pressed")
        wait_until(lambda: driver.execute_script(SEEN) == 5, 60, "every tile shows pictures")
        whole = driver.execute_script("return performance.now()") / 1000
        found = received(driver)
        driver.execute_script("performance.clearResourceTimings()")
        time.sleep(11)  # two looks at the list
        polled = received(driver)
    finally:
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", FAST)
    largest = found.most_common(4)
    log.info(f"{found.total()} bytes, {len(found)} requests; usable after {seconds:.1f} s, whole after {whole:.1f} s")
    assert not [name for name in found if "figures/sheet" in name]
    assert found.total() <= MOST_BYTES, largest
    assert seconds <= MOST_SECONDS
    looks = {name: size for name, size in polled.items() if name.startswith("/jobs?")}
    assert looks, "it looks at the list"
    assert max(looks.values()) < 1000, "which has not changed"
    assert studio.errors() == []
