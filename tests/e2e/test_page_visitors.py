"""The paths of whole visits. Others are in the files of what they are about: a stranger's first press, somebody who
returns, somebody with a photograph, somebody who changes a face, and a teacher's story.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.serving import ENVIRONMENT, running
from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_researcher_goes_from_a_figure_to_the_code_of_a_picture(studio: Studio) -> None:
    """A point of the card's plot, a grid around its settings, two cells side by side, what differs, and the code."""
    studio.click("#about")
    studio.click("dialog.model-card .point")
    wait_until(lambda: not studio.all("dialog.model-card"), 5, "its settings are in the form")
    assert studio.form.find_element(By.NAME, "sampler").get_property("value") == "ddim"
    studio.click("nav a[href='#grid']")
    studio.pick(studio.see("#grid .axis:nth-of-type(1) select"), "eta")
    studio.click("#grid .main")
    wait_until(lambda: len(studio.all("#grid td img")) == 12, 60, "three by four pictures are drawn")
    boxes = studio.all("#grid td .box")
    for box in (boxes[0], boxes[8]):
        studio.driver.execute_script("arguments[0].click()", box)
    studio.press("Compare", "#selection")
    studio.see("#compare table")
    differs = studio.texts("#compare tbody th")
    assert differs == ["Eta (DDIM, DPM++)"], "all else is equal"
    studio.driver.back()
    wait_until(lambda: studio.all("#grid td img"), 10, "Back shows the grid")
    studio.click("#grid td a.picture")
    studio.click("dialog.viewer summary")
    code = studio.see("dialog.viewer .terminal pre").text
    assert "eta=0" in code
    assert "sampler=ddim" in code


@pytest.mark.parametrize("studio", ["phone"], indirect=True)
def test_somebody_on_a_phone_draws_holds_compares_and_marks_a_favourite(studio: Studio) -> None:
    studio.click("#open")
    studio.show_form()
    job_id = studio.made(2, seed="31")
    first, second = studio.all(f"#job-{job_id} figure")
    studio.hold(first)
    studio.click(first.find_element(By.CSS_SELECTOR, ".box"))
    studio.click(second.find_element(By.CSS_SELECTOR, "a"))
    studio.press("Compare", "#selection")
    studio.press("Divider", "#compare")
    assert studio.driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    studio.click("nav a[href='#gallery']")
    studio.press("Clear", "#selection")
    studio.view(job_id, 1)
    studio.click("dialog.viewer button.favourite")
    studio.driver.back()
    wait_until(lambda: not studio.all("dialog.viewer"), 5, "Back closes it")
    studio.click("#filters .favourites, #favourites")
    wait_until(lambda: len(studio.all(f"#job-{job_id} a.picture")) == 1, 5, "the one that was marked is left")


@pytest.fixture
def empty(driver: webdriver.Chrome, cascade_models_dir: Path, tmp_path: Path) -> Iterator[Studio]:
    """A server where nothing was drawn yet."""
    with running(tmp_path, ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(cascade_models_dir)}) as difuso:
        studio = Studio(driver, difuso.url, "phone")
        studio.open()
        yield studio


@pytest.mark.timeout(120)
def test_axe_finds_nothing_where_nothing_was_drawn_yet(empty: Studio, axe: str) -> None:
    empty.see("#gallery .tile")
    assert empty.axe(axe) == []
