"""Training from the page: pictures are dropped, and in the end there is a model that draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.e2e.test_trainings import prompt
from tests.icons import icons, zipped
from tests.serving import ENVIRONMENT, running
from tests.studio import Studio
from tests.waiting import wait_until


@pytest.fixture
def trains(driver: webdriver.Chrome, models_dir: Path, tmp_path: Path) -> Iterator[Studio]:
    """The tab of a server that trains, on a first visit."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "DIFUSO_TRAINING"}
    with running(tmp_path, environment | {"DIFUSO_MODELS_DIR": str(models_dir)}, start=prompt) as difuso:
        studio = Studio(driver, difuso.url, "desktop")
        studio.open()
        studio.click("#train-tab")
        studio.see("#train .drop")
        yield studio


def drop(studio: Studio, folder: Path, count: int) -> None:
    path = folder / "icons.zip"
    path.write_bytes(zipped(icons(count)))
    studio.driver.find_element(By.CSS_SELECTOR, "#train input[type=file]").send_keys(str(path))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("redis_server")
def test_a_zip_of_icons_becomes_a_model_that_draws(trains: Studio, tmp_path: Path, axe: str) -> None:
    drop(trains, tmp_path, 12)
    assert "too few" in trains.see("#train .found .error").text
    assert not trains.all("#train form")
    drop(trains, tmp_path, 600)
    wait_until(lambda: len(trains.all("#train .thumbnails canvas")) == 48, 20, "48 pictures are shown")
    said = trains.text("#train .found p")
    assert "600 pictures" in said
    assert "circle 200, square 200, triangle 200" in said
    assert trains.axe(axe) == []
    trains.click("#train form details summary")
    trains.driver.find_element(By.NAME, "minutes").send_keys("0.2")
    trains.press("Start", "#train")
    trains.see("#train .watch")
    address = trains.driver.current_url
    wait_until(lambda: trains.all("#train .training polyline"), 120, "its losses are drawn")
    assert trains.axe(axe) == []
    trains.driver.refresh()
    wait_until(lambda: "done" in trains.text("#train .state"), 200, "it is done")
    assert trains.driver.current_url == address
    trains.see("#train .tile[data-model=icons]")
    wait_until(lambda: len(trains.all("#train .training polyline")) == 2, 20, "and the losses of pictures held out")
    trains.click("#train .tile .draw")
    wait_until(lambda: trains.driver.current_url.endswith("#gallery") or trains.all("#jobs img"), 40, "it draws")
    assert trains.errors() == []
