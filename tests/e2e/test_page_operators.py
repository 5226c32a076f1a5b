"""The queue of the page as operators see it, and as others do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.app_server import keys_file
from tests.serving import ENVIRONMENT, Difuso, running
from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

ALICE, OSCAR = ({"Authorization": f"Bearer {name}-key"} for name in ("alice", "oscar"))


@pytest.fixture
def guarded(redis_server: object, models_dir: Path, tmp_path: Path) -> Iterator[Difuso]:
    ours = {"DIFUSO_MODELS_DIR": str(models_dir), "DIFUSO_API_KEYS_FILE": str(keys_file(tmp_path))}
    with running(tmp_path, ENVIRONMENT | ours) as guarded:
        yield guarded


def opened(driver: webdriver.Chrome, url: str, key: str) -> Studio:
    """The page with its queue, for the holder of a key."""
    studio = Studio(driver, url, "desktop")
    driver.get("about:blank")  # the page of the test before asks a server that has ended
    studio.errors()
    driver.get(url)
    driver.execute_script("sessionStorage.clear(); localStorage.setItem('difuso-language', 'en'); location.reload()")
    studio.see("#access").find_element(By.ID, "key").send_keys(key)
    studio.press("Continue", "#access")
    wait_until(lambda: studio.all("#live > span"), 15, "the page is there")
    studio.click("[popovertarget=queue]")
    return studio


def test_an_operator_holds_back_models_and_workers_and_says_who_is_next(
    driver: webdriver.Chrome, guarded: Difuso, axe: str
) -> None:
    def fleet() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{guarded.url}/fleet", headers=OSCAR).json()
        return found

    def state(job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{guarded.url}/jobs/{job_id}", headers=OSCAR).json()
        return found

    studio = opened(driver, guarded.url, "oscar-key")
    worker = fleet()["workers"][0]["name"]
    model = httpx.get(f"{guarded.url}/models", headers=OSCAR).json()["default"]
    studio.click(studio.see(f"#queue [data-held='paused/{model}']"))
    wait_until(lambda: fleet()["paused"] == [model], 5, "the model is paused")
    wait_until(lambda: studio.text(f"#queue [data-held='paused/{model}']") == "Resume", 5, "and can go on")
    focus = "return document.activeElement.dataset.held"
    assert driver.execute_script(focus) == f"paused/{model}", "the focus stays"
    post = f"{guarded.url}/generate?steps=2"

    def waits() -> bool:
        """Whether the worker has heard of it, so that a job waits."""
        job_id = httpx.post(post, headers=ALICE | {"Prefer": "respond-async"}).json()["id"]
        path = f"{guarded.url}/jobs/{job_id}"
        is_waiting: bool = httpx.get(path, headers=OSCAR | {"Prefer": "wait=1"}).json()["state"] == "queued"
        httpx.delete(path, headers=OSCAR)
        return is_waiting

    wait_until(waits, 30, "a job waits")
    ids = [httpx.post(post, headers=ALICE | {"Prefer": "respond-async"}).json()["id"] for _ in range(3)]
    last = f"#queue li[data-job='{ids[-1]}']"
    wait_until(lambda: studio.all(f"{last} .first:not([hidden])"), 15, "the jobs of others are listed")
    assert state(ids[-1])["position"] == 2
    studio.press("First", last)
    wait_until(lambda: state(ids[-1])["position"] == 0, 5, "it is the next")
    studio.press("Cancel", f"#queue li[data-job='{ids[1]}']")
    wait_until(lambda: state(ids[1])["state"] == "cancelled", 5, "another is cancelled")
    assert studio.axe(axe) == []
    cordon = f"#queue [data-held='cordoned/{worker}']"
    studio.press("Cordon", "#queue")
    wait_until(lambda: fleet()["workers"][0]["cordoned"], 5, "the worker is cordoned")
    wait_until(lambda: studio.text(cordon) == "Uncordon", 5, "and the table says so")
    studio.press("Uncordon", "#queue")
    wait_until(lambda: not fleet()["workers"][0]["cordoned"], 5, "it may claim again")
    studio.click(f"#queue [data-held='paused/{model}']")
    wait_until(lambda: state(ids[-1])["state"] == "succeeded", 20, "the jobs are drawn")


def test_others_see_their_jobs_alone(driver: webdriver.Chrome, guarded: Difuso) -> None:
    studio = opened(driver, guarded.url, "alice-key")
    asked = "return performance.getEntriesByType('resource').some(each => each.name.endsWith('/fleet'))"
    wait_until(lambda: studio.driver.execute_script(asked), 10, "the server has said that she is no operator")
    assert not studio.all("#queue table")
    assert all("403" in each or "401" in each for each in studio.errors())
