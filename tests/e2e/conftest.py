"""A browser for the tests of the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver

# The machine may have no way out, and chromium's own requests would show as errors of the page.
QUIET = ("--headless=new", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """A browser that runs already installed programs only. Without one: skipped here, failed in CI."""
    program = shutil.which("chromedriver")
    if program is None:
        message = (
            "there is no chromedriver on the PATH: install Chromium and its driver, on Debian "
            "chromium-driver, to try the page in a browser"
        )
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    for argument in (*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(program)) as driver:
        yield driver
