"""The first minute: models are shown by what they draw, and one press draws."""

from pathlib import Path

import pytest
from selenium import webdriver

from tests.serving import ENVIRONMENT, running
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

TEAL = [0, 128, 128, 255]
COLOUR = "return [...arguments[0].querySelector('canvas').getContext('2d').getImageData(8, 8, 1, 1).data]"


def test_the_form_opens_with_what_to_do_and_three_controls(studio: Studio) -> None:
    def seen() -> list[str | None]:
        fields = studio.form.find_elements("css selector", "input, select")
        return [each.get_attribute("id") or each.get_attribute("name") for each in fields if each.is_displayed()]

    assert seen() == ["kind", "model", "n", "plan"]
    studio.unfold()
    assert {"steps", "sampler", "seed", "eta", "urgency"} <= set(seen())


@at_both_widths
def test_a_model_is_picked_by_what_it_draws_and_draws_at_once(studio: Studio) -> None:
    studio.click("#pick")
    tile = studio.see("dialog.picker .tile[data-model='tiny']")
    assert "A network of random weights, with seed 0." in tile.text, "the first sentence of its card"
    wait_until(lambda: studio.driver.execute_script(COLOUR, tile) == TEAL, 5, "its sheet is shown")
    studio.press("Choose", "dialog.picker .tile[data-model='with-classes']")
    assert studio.one("#model").get_property("value") == "with-classes"
    studio.click("#pick")
    chosen = studio.see("dialog.picker .tile[data-model='with-classes'] [aria-pressed=true]")
    assert chosen.text == "Choose"
    job = studio.done(studio.after(lambda: studio.press("Draw 4", "dialog.picker .tile[data-model='tiny']")))
    studio.shown(job["id"], 4)
    assert (job["params"]["sampler"], job["params"]["steps"]) == ("ddim", 3), "its plan of the fewest steps"
    assert not studio.all("dialog.picker")


def test_a_model_that_enlarges_draws_what_it_enlarges(studio: Studio) -> None:
    studio.click("#pick")
    job = studio.job(studio.after(lambda: studio.press("Draw 4", "dialog.picker .tile[data-model='tiny-up']")))
    assert (job["kind"], job["task"]["upscale"]["model"]) == ("generate", "tiny-up")


@pytest.mark.slow
def test_a_stranger_draws_with_one_press(driver: webdriver.Chrome, models_dir: Path, tmp_path: Path) -> None:
    """A server on which nothing was drawn shows its models in place of pictures."""
    with running(tmp_path, ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(models_dir)}) as difuso:
        studio = Studio(driver, difuso.url, "desktop")
        studio.open()
        tile = studio.see("#gallery .tile")
        assert not tile.find_elements("css selector", "[aria-pressed]"), "here a tile does nothing but draw"
        job_id = studio.after(lambda: studio.press("Draw 4", "#gallery .tile[data-model='tiny']"))
        studio.shown(job_id, 4)
        assert not studio.all("#gallery .tile")
        assert studio.errors() == []
