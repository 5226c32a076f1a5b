"""What the page has for research, in a real browser: the grid, the price of a request, and the card of a model."""

from __future__ import annotations

import re
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


def set_axis(studio: Studio, place: int, axis: str, values: set[str] | str) -> None:
    """Chooses what the rows, 0, or the columns, 1, of a grid are: values by their boxes, or a text of numbers."""
    fieldset = f"#grid .axis:nth-of-type({place + 1})"
    studio.pick(studio.one(f"{fieldset} select"), axis)
    if isinstance(values, str):
        field = studio.one(f"{fieldset} .samplers input")
        field.clear()
        field.send_keys(values)
        return
    for box in studio.all(f"{fieldset} .samplers input"):
        if box.is_selected() != (box.get_property("value") in values):
            studio.click(box)


def draw_grid(studio: Studio, rows: tuple[str, set[str] | str], columns: tuple[str, set[str] | str]) -> list[Any]:
    """Draws a grid by its form; returns its jobs, the first first, once all are shown."""
    studio.click("nav a[href='#grid']")
    studio.see("#grid .grid-form")
    for place, (axis, values) in enumerate((rows, columns)):
        set_axis(studio, place, axis, values)
    studio.click("#grid .main")
    wait_until(lambda: studio.all("#grid td img"), 20, "pictures are shown")
    wait_until(lambda: not studio.all("#grid td .blank"), 30, "all pictures are shown")
    tag = str(studio.driver.execute_script("return location.hash")).split("=")[1]
    return list(reversed(httpx.get(f"{studio.url}/jobs", params={"tag": tag, "limit": 100}).json()["jobs"]))


def test_a_grid_has_one_seed_and_is_exported_and_kept(studio: Studio, tmp_path: Path) -> None:
    jobs = draw_grid(studio, ("sampler", {"ddim", "unipc"}), ("steps", "2, 4, 6"))
    params = [job["params"] for job in jobs]
    asked = {(each["sampler"], each["steps"], each["seed"], each["n"]) for each in params}
    assert asked == {(sampler, steps, 1, 1) for sampler in ("ddim", "unipc") for steps in (2, 4, 6)}
    assert studio.texts("#grid thead th") == ["Steps", "Sampler", "2", "4", "6"]
    assert studio.texts("#grid tbody th") == ["ddim", "unipc"]
    assert all(each.endswith("s") for each in studio.texts("#grid td small"))
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
    assert studio.texts("#grid thead th") == ["Steps", "Sampler", "2", "4", "6"]


def shown_cells(studio: Studio) -> dict[tuple[str, str], str]:
    """Returns the address of the picture in each cell, by the words of its row and column."""
    columns = studio.texts("#grid thead tr:nth-child(2) th")[1:]
    script = "return [...document.querySelectorAll('#grid tbody tr')].map(row => [row.querySelector('th').innerText,"
    script += "[...row.querySelectorAll('td')].map(cell => cell.querySelector('a')?.pathname)])"
    return {
        (row, column): address
        for row, addresses in studio.driver.execute_script(script)
        for column, address in zip(columns, addresses, strict=True)
    }


def test_what_images_of_a_job_can_differ_by_is_one_job(studio: Studio) -> None:
    """A class and a seed; of other settings there is a job for each value. Each cell has the picture that it names."""
    studio.fill("model", "with-classes")
    studio.fill("steps", "2")
    (job,) = draw_grid(studio, ("label", set(CLASSES)), ("seed", "4, 9"))
    assert job["params"]["n"] == 6
    assert job["params"]["steps"] == 2
    cells = shown_cells(studio)
    assert [*cells] == [(name, seed) for name in CLASSES for seed in ("4", "9")]
    alone = {"model": "with-classes", "steps": "2", "label": "star", "seed": "9"}
    other = httpx.post(f"{studio.url}/generate", params=alone, timeout=30).headers["X-Job-Id"]
    assert studio.pixels(cells["star", "9"]) == studio.pixels(f"/jobs/{other}/images/0")
    jobs = draw_grid(studio, ("guidance_scale", "1, 3"), ("label", {"star", "circle"}))
    params = [each["params"] for each in jobs]
    assert [(each["guidance_scale"], each["n"], each["seed"]) for each in params] == [(1, 2, [1, 1]), (3, 2, [1, 1])]
    address = str(studio.driver.execute_script("return location.hash"))
    cells = shown_cells(studio)
    studio.load(address)
    wait_until(lambda: len(studio.all("#grid td img")) == 4, 10, "its address shows it again")
    assert shown_cells(studio) == cells
    assert studio.one("#grid .axis:nth-of-type(1) .samplers input").get_property("value") == "1, 3", (
        "and its form what it is"
    )
    assert studio.texts("#grid .axis:nth-of-type(2) .check:has(:checked)") == ["circle", "star"]
    assert studio.one("#form [name=model]").get_property("value") == "with-classes"
    studio.load()
    assert "Grid: Guidance \u00d7 Class" in studio.see("#jobs article:not([id])").text


def test_a_grid_of_models_has_a_job_for_each(studio: Studio) -> None:
    names = {"tiny", "with-classes", "with-glasses"}
    jobs = draw_grid(studio, ("model", names), ("seed", "1, 2"))
    assert [(each["model"], each["params"]["seed"]) for each in jobs] == [(name, [1, 2]) for name in sorted(names)]
    assert studio.texts("#grid tbody th") == sorted(names)
    assert len(studio.all("#grid td img")) == 6


def test_a_grid_has_at_most_eight_values_each_way_and_no_axis_twice(studio: Studio) -> None:
    studio.click("nav a[href='#grid']")
    studio.see("#grid .grid-form")
    set_axis(studio, 1, "seed", "1, 2, 3, 4, 5, 6, 7, 8, 9")
    assert not studio.all("#grid .grid-seed:not([hidden])"), "the seeds are those of the columns"
    studio.click("#grid .main")
    assert "at most 8" in studio.text("#grid .error")
    script = (
        "return [...document.querySelectorAll('#grid .axis:nth-of-type(1) option:disabled')].map(each => each.value)"
    )
    assert studio.driver.execute_script(script) == ["seed"]


def test_cells_that_a_sampler_cannot_do_say_so(studio: Studio) -> None:
    draw_grid(studio, ("sampler", {"ddim", "unipc"}), ("eta", "0, 1"))
    (row,) = [each for each in studio.all("#grid tbody tr") if each.text.startswith("unipc")]
    assert "not possible" in row.text
    assert len(row.find_elements(By.TAG_NAME, "img")) == 1
    assert "Eta" in studio.text("#grid .error"), "and why"
    errors = studio.errors()
    assert len(errors) == 1
    assert "422" in errors[0]


def test_the_axes_of_a_grid_are_those_of_the_model_of_the_form(studio: Studio) -> None:
    columns = "#grid .axis:nth-of-type(2)"

    def axes() -> list[str]:
        return studio.texts(f"{columns} option")

    usual = ["Sampler", "Model", "Steps", "Guidance", "Eta (DDIM, DPM++)", "Seed"]
    studio.fill("model", "with-glasses")
    studio.click("nav a[href='#grid']")
    studio.pick(studio.see(f"{columns} select"), "condition:glasses")
    studio.driver.execute_script("location.hash = '#make?kind=generate&model=traits'")
    studio.click("nav a[href='#grid']")
    wait_until(lambda: axes()[-2:] == ["Age", "Glasses"], 5, "both of `traits` are offered")
    assert {*usual} <= {*axes()}
    assert studio.texts(f"{columns} .check") == ["none", "round"]
    studio.driver.execute_script("location.hash = '#make?kind=generate&model=tiny'")
    studio.click("nav a[href='#grid']")
    wait_until(lambda: axes() == usual, 5, "tiny has no conditions")
    assert studio.one(f"{columns} select").get_property("value") == "steps"
    studio.choose("upscale")
    studio.press("Draw 16 pictures", "#grid")
    assert "tiny-up draws from a picture." in studio.text("#grid .error")


HATS = """
import("/static/models.js").then(({ models }) => {
  const values = ["none", "cap", "bowler", "fez", "beret"];
  models.get("with-glasses").conditions.hat = { type: "choice", null: true, values };
  arguments[0]();
});
"""


def test_a_grid_opens_on_the_two_choices_that_offer_most(studio: Studio) -> None:
    studio.fill("model", "with-glasses")
    studio.driver.execute_async_script(HATS)
    studio.click("nav a[href='#grid']")
    studio.see("#grid .grid-form")
    axes = [each.get_property("value") for each in studio.all("#grid .axis select")]
    assert axes == ["condition:hat", "condition:glasses"]
    assert studio.texts("#grid .check:has(:checked)") == ["none", "cap", "bowler", "fez", "none", "eye patch"]
    assert studio.text("#grid .main") == "Draw 8 pictures"


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
    assert re.search(r"about [\d.]+\u00a0m?s", studio.text("#price")), "a number and its unit stay on one line"
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
    links = [each.get_attribute("href") for each in card.find_elements(By.CSS_SELECTOR, "a[href]")]
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


AT_STEP = """
const plot = document.querySelector(".training").getBoundingClientRect();
const [x, y] = [plot.left + plot.width * arguments[0], plot.top + plot.height / 2];
const moved = new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true });
document.querySelector(".training").dispatchEvent(moved);
"""
HEIGHTS = """
return document.querySelector(".training polyline").getAttribute("points").split(" ")
  .map(each => each.split(",").map(Number));
"""


def test_the_curves_of_a_training_have_numbers_and_a_second_model(studio: Studio) -> None:
    card = "dialog.model-card .cardTraining"
    studio.click("#about")
    studio.see(f"{card} polyline")
    assert studio.texts(f"{card} select:first-of-type option")[:3] == [
        "What it gets wrong (loss)",
        "Size of the gradient",
        "Learning rate",
    ], "skipped is no curve"
    studio.slide(studio.one(f"{card} label [type=range]"), 0)
    ticks = {name: studio.text(f"{card} .tick.{name}") for name in ("most", "half", "none", "least", "longest")}
    assert ticks == {"most": "1", "half": "0.1", "none": "0.01", "least": "0", "longest": "300"}, "by powers of ten"
    places = studio.driver.execute_script(HEIGHTS)
    assert np.allclose(places, [(1 / 3, 0), (2 / 3, 0.5), (1, 1)]), "the second stage follows the first"
    studio.driver.execute_script(AT_STEP, 0.7)
    assert studio.text(f"{card} output") == "step 210 \u00b7 tiny 0.1"
    studio.one(f"{card} .training input").send_keys(Keys.END)
    wait_until(lambda: studio.text(f"{card} output") == "step 300 \u00b7 tiny 0.01", 5, "the keyboard reaches them")
    studio.slide(studio.one(f"{card} label [type=range]"), 0.5)
    first, second, third = 1, 0.3 / 0.75, 0.155 / 0.875  # averages whose weights are halved from step to step
    expected = [(1 / 3, 0), (2 / 3, (first - second) / (first - third)), (1, 1)]
    assert np.allclose(studio.driver.execute_script(HEIGHTS), expected), "and evenly where they are near each other"
    other = studio.all(f"{card} select")[1]
    Select(other).select_by_visible_text("with-guide")
    wait_until(lambda: len(studio.all(f"{card} polyline")) == 2, 5, "both are shown")
    assert studio.text(f"{card} .tick.longest") == "600"
    assert "with-guide 0.333" in studio.text(f"{card} output")
    studio.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    stroke = "return getComputedStyle(document.querySelector('.training polyline')).stroke"
    dark = studio.driver.execute_script(stroke)
    studio.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert dark != studio.driver.execute_script(stroke), "it is drawn in the colours of the page"
