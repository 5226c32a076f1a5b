"""The page about the API, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.serving import Difuso
from tests.waiting import wait_until


@pytest.fixture
def browser(driver: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """A browser that must have nothing to complain of, such as the policy that forbids what comes from elsewhere."""
    driver.get("about:blank")  # a page of an earlier test may still ask for its server
    driver.get_log("browser")  # type: ignore[no-untyped-call]
    yield driver
    log = driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
    found: list[str] = browser.execute_script(script, selector)
    return found


@pytest.mark.slow
def test_every_operation_parameter_and_schema_is_shown(browser: webdriver.Chrome, studio_server: Difuso) -> None:
    schema = httpx.get(f"{studio_server.url}/openapi.json", timeout=60).json()
    browser.get(f"{studio_server.url}/docs#restore")
    wait_until(lambda: bool(browser.find_elements(By.ID, "restore")), 10, "the operations are shown")
    operations = [each for methods in schema["paths"].values() for each in methods.values()]
    parts = schema["components"]
    ids = [*(each["operationId"] for each in operations), *parts["schemas"]]
    shown_ids = browser.execute_script("return [...document.querySelectorAll('main [id]')].map(e => e.id)")
    assert sorted(shown_ids) == sorted(ids)
    for operation in operations:
        shown = texts(browser, f"#{operation['operationId']} td:first-child")
        assert {each["name"] for each in operation.get("parameters", [])} | set(operation["responses"]) <= set(shown)
    assert {link[1:] for link in hrefs(browser) if link.startswith("#")} <= set(ids)
    restore = browser.find_element(By.ID, "restore")
    assert "inpaint needs a part mask" in restore.text  # it is open, because the address names it
    assert "Cancel a job" in browser.find_element(By.ID, "cancel_job").text
    assert not browser.find_element(By.CSS_SELECTOR, "#cancel_job table").is_displayed()
    command = next(each for each in texts(browser, "#restore pre"))
    assert "-F image=@image.png" in command
    assert "task=superres" in command


def hrefs(browser: webdriver.Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('main a')].map(each => each.getAttribute('href') ?? '')"
    found: list[str] = browser.execute_script(script)
    return found
