"""What the page has for research, in a real browser: the grid, the price of a request, and the card of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.small_models import CLASSES
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def draw_grid(studio: Studio, samplers: set[str], values: str, *, axis: str = "steps") -> list[dict[str, Any]]:
    """Draws a grid by its form; returns its jobs once all are shown."""
    studio.click("nav a[href='#grid']")
    studio.see("#grid .grid-form")
    for box in studio.all("#grid .samplers input"):
        if box.is_selected() != (box.get_property("value") in samplers):
            studio.click(box)
    studio.pick(studio.one("#grid select"), axis)
    field = studio.one("#grid .triple label:nth-child(2) input")
    field.clear()
    field.send_keys(values)
    studio.press(f"Draw {len(samplers) * len(values.split(','))} pictures", "#grid")
    wait_until(lambda: studio.all("#grid td img"), 20, "pictures are shown")
    wait_until(lambda: not studio.all("#grid td .blank"), 30, "all pictures are shown")
    tag = str(studio.driver.execute_script("return location.hash")).split("=")[1]
    found: list[dict[str, Any]] = httpx.get(f"{studio.url}/jobs", params={"tag": tag, "limit": 100}).json()["jobs"]
    return found


def test_a_grid_has_one_seed_and_is_exported_and_kept(studio: Studio, tmp_path: Path) -> None:
    jobs = draw_grid(studio, {"ddim", "unipc"}, "2, 4, 6")
    params = [job["params"] for job in jobs]
    asked = {(each["sampler"], each["steps"], each["seed"], each["n"]) for each in params}
    assert asked == {(sampler, steps, 1, 1) for sampler in ("ddim", "unipc") for steps in (2, 4, 6)}
    assert studio.texts("#grid thead th") == ["steps 2", "steps 4", "steps 6"]
    assert studio.texts("#grid tbody th") == ["ddim", "unipc"]
    assert all(" s" in each for each in studio.texts("#grid td small"))
    studio.downloads(tmp_path)
    studio.press("Save as one picture", "#grid")
    sheet = np.asarray(Image.open(studio.downloaded(tmp_path, "difuso-grid-*.png")).convert("RGB"))
    first = next(each for each in jobs if (each["params"]["sampler"], each["params"]["steps"]) == ("ddim", 2))
    picture = np.asarray(studio.pixels(first["links"]["images"][0]))
    enlarged = picture.repeat(8, axis=0).repeat(8, axis=1)
    at = [(y, x) for y in range(60, 90) for x in range(100, 120) if (sheet[y : y + 128, x : x + 128] == enlarged).all()]
    assert len(at) == 1  # pixel by pixel
    studio.load()
    studio.press("Open the grid")
    wait_until(lambda: len(studio.all("#grid td img")) == 6, 15, "the grid is there after a reload")


def test_cells_that_a_sampler_cannot_do_say_so(studio: Studio) -> None:
    draw_grid(studio, {"ddim", "unipc"}, "0, 1", axis="eta")
    (row,) = [each for each in studio.all("#grid tbody tr") if each.text.startswith("unipc")]
    assert "not possible" in row.text
    assert len(row.find_elements(By.TAG_NAME, "img")) == 1
    assert "Eta" in studio.text("#grid .error"), "and why"
    errors = studio.errors()
    assert len(errors) == 1
    assert "422" in errors[0]


def test_the_columns_of_a_grid_are_those_of_the_model_of_the_form(studio: Studio) -> None:
    def axes() -> list[str]:
        return studio.texts("#grid select option")

    studio.fill("model", "with-glasses")
    studio.click("nav a[href='#grid']")
    studio.pick(studio.see("#grid select"), "condition:glasses")
    studio.driver.execute_script("location.hash = '#make?kind=generate&model=traits'")
    studio.click("nav a[href='#grid']")
    wait_until(lambda: axes() == ["steps", "guidance", "eta", "age", "glasses"], 5, "both of `traits` are offered")
    values = studio.one("#grid .triple label:nth-child(2) input").get_property("value")
    assert values == "none, round"
    studio.driver.execute_script("location.hash = '#make?kind=generate&model=tiny'")
    studio.click("nav a[href='#grid']")
    wait_until(lambda: axes() == ["steps", "guidance", "eta"], 5, "tiny has no conditions")
    studio.choose("upscale")
    studio.press("Draw 16 pictures", "#grid")
    assert "tiny-up draws from a picture." in studio.text("#grid .error")


def post(studio: Studio, tag: str, **query: str) -> str:
    asked = {"steps": "2", "seed": "1", "tag": tag, **query}
    return str(httpx.post(f"{studio.url}/generate", params=asked, timeout=30).headers["X-Job-Id"])


def test_a_cell_is_empty_once_its_job_is_deleted(studio: Studio) -> None:
    for sampler in ("ddim", "unipc"):
        post(studio, "grid:steps:1f", sampler=sampler)
    studio.load("#grid=grid:steps:1f")
    wait_until(lambda: len(studio.all("#grid td img")) == 2, 10, "both are shown")
    studio.click("#grid td a.picture")
    studio.press("Delete", "dialog.viewer")
    wait_until(lambda: len(studio.all("#grid td .blank")) == 1, 5, "its cell is empty")
    assert len(studio.all("#grid td img")) == 1
    studio.press("Undo", "#notices")
    wait_until(lambda: len(studio.all("#grid td img")) == 2, 5, "its cell is filled again")


def test_the_price_is_shown_before_anything_is_made(studio: Studio) -> None:
    before = studio.newest()
    studio.fill("n", "6")
    studio.fill("steps", "50")
    wait_until(lambda: studio.text("#price").startswith("300 steps"), 10, "the price is that of the form")
    assert " s" in studio.text("#price")
    studio.pick(studio.one("#form [name=sampler]"), "unipc")
    studio.unfold()
    studio.fill("eta", "1")
    wait_until(lambda: "Eta" in studio.text("#price.error"), 10, "what the server would refuse is said")
    assert all("422" in each for each in studio.errors())
    studio.fill("eta", "")
    assert studio.newest() == before
    studio.fill("steps", "")
    studio.fill("n", "1")
    wait_until(lambda: studio.text("#price").startswith("50 steps"), 10, "defaults count, too")


def test_the_card_of_a_model_shows_what_its_folder_says(studio: Studio) -> None:
    studio.click("#about")
    card = studio.see("dialog.model-card")
    wait_until(lambda: "Licence" in card.text, 10, "the description is there")
    for words in ("16\u00d716", "CC0 1.0 <img src=x>", "random weights", "data", "none"):
        assert words in card.text
    assert [each.text for each in card.find_elements(By.TAG_NAME, "strong")] == [
        "random",
        "ddim 3 trailing, eta=0.5",
        "Licence.",
    ]
    links = [each.get_attribute("href") for each in card.find_elements(By.TAG_NAME, "a")]
    assert links == ["https://www.openpeeps.com/"]


def test_the_card_names_what_its_model_draws_instead_of(studio: Studio) -> None:
    studio.fill("model", "wide")
    studio.click("#about")
    card = studio.see("dialog.model-card dl")
    assert "Draws instead of\nDPMSolverSDEScheduler: its noise is another" in card.text


@at_both_widths
def test_a_sample_of_the_card_is_drawn_again(studio: Studio) -> None:
    """Class by class; the seeds are those of training."""
    studio.fill("model", "with-classes")
    studio.click("#about")
    studio.see("dialog.model-card .sample")
    assert studio.texts("dialog.model-card h4") == list(CLASSES)
    samples = studio.all("dialog.model-card .sample")
    assert len(samples) == 64
    words = [each.get_attribute("aria-label") for each in samples]
    assert words[:2] == ["Seed 0, circle", "Seed 3, circle"]
    sample = studio.one("dialog.model-card [aria-label='Seed 5, star']")
    params = studio.job(studio.after(lambda: sample.send_keys(Keys.ENTER)))["params"]
    assert (params["seed"], params["label"], params["n"]) == (5, 2, 1)
    wait_until(lambda: not studio.all("dialog.model-card"), 5, "the card closes")


def test_samples_are_arranged_by_a_condition_and_drawn_as_the_sheet_says(studio: Studio) -> None:
    studio.fill("model", "with-glasses")
    studio.click("#about")
    studio.see("dialog.model-card .sample")
    assert not studio.all("dialog.model-card h4"), "at first in the order of the sheet"
    Select(studio.one("dialog.model-card select")).select_by_visible_text("glasses")
    assert studio.texts("dialog.model-card h4") == ["none", "eye patch", "any"]
    assert len(studio.all("dialog.model-card .sample")) == 64
    sample = studio.one("dialog.model-card [aria-label='Seed 4, glasses eye patch']")
    params = studio.job(studio.after(lambda: sample.send_keys(Keys.ENTER)))["params"]
    assert (params["seed"], params["conditions"]) == (4, {"glasses": ["eye patch"]})


def test_a_point_of_the_quality_is_used_as_settings(studio: Studio) -> None:
    """The card's table says how good they are, and the server how long they take."""
    studio.click("#about")
    studio.see("dialog.model-card .point")
    points = studio.all("dialog.model-card .point")
    words = [each.get_attribute("aria-label") or "" for each in points]
    assert [each.partition(":")[0] for each in words] == ["ddim 3 trailing, eta=0.5", "10 calls"]
    assert "7.0, " in words[0]
    places = [(each.location["x"], each.location["y"]) for each in points]
    assert places[0] < places[1], "more steps take longer"
    assert places[0][1] < places[1][1], "the better one is below"
    points[0].send_keys(Keys.ENTER)
    wait_until(lambda: not studio.all("dialog.model-card"), 5, "the card closes")
    values = {
        name: studio.form.find_element(By.NAME, name).get_property("value")
        for name in ("sampler", "steps", "spacing", "eta")
    }
    assert values == {"sampler": "ddim", "steps": "3", "spacing": "trailing", "eta": "0.5"}
