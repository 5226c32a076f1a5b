"""The first minute: models are shown by what they draw, and one press draws."""

from pathlib import Path

import pytest
from selenium import webdriver

from tests.serving import ENVIRONMENT, running
from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def test_the_form_opens_with_what_to_do_and_three_controls(studio: Studio) -> None:
    def seen() -> list[str | None]:
        fields = studio.form.find_elements("css selector", "input, select")
        return [each.get_attribute("id") or each.get_attribute("name") for each in fields if each.is_displayed()]

    assert seen() == ["kind", "model", "n", "plan"]
    studio.unfold()
    assert {"steps", "sampler", "seed", "eta", "urgency"} <= set(seen())


def test_a_model_that_enlarges_draws_what_it_enlarges(studio: Studio) -> None:
    studio.click("#pick")
    job = studio.job(studio.after(lambda: studio.press("Draw 4", "dialog.picker .tile[data-model='tiny-up']")))
    assert (job["kind"], job["task"]["upscale"]["model"]) == ("generate", "tiny-up")


# Counts the pictures that come out of their noise by themselves, and those that have.
PREMIERES = """
window.premieres = [0, 0];
const within = node => (node.matches?.(".premiere") ? 1 : (node.querySelectorAll?.(".premiere").length ?? 0));
new MutationObserver(records => {
  for (const { addedNodes, removedNodes } of records) {
    [addedNodes, removedNodes].forEach((nodes, each) => [...nodes].forEach(node => (premieres[each] += within(node))));
  }
}).observe(document.body, { childList: true, subtree: true });
"""


@pytest.mark.timeout(180)
def test_a_stranger_draws_with_one_press_and_shows_it_to_a_friend(
    driver: webdriver.Chrome, second_driver: webdriver.Chrome, cascade_models_dir: Path, tmp_path: Path
) -> None:
    """Where nothing was drawn yet, models stand in place of pictures. From there on: one press, the film of a picture,
    more like it, a link, and the same picture in another browser."""
    with running(tmp_path, ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(cascade_models_dir)}) as difuso:
        studio = Studio(driver, difuso.url, "desktop")
        studio.open()
        tile = studio.see("#gallery .tile")
        assert not tile.find_elements("css selector", "[aria-pressed]"), "here a tile does nothing but draw"
        studio.driver.execute_script(PREMIERES)
        job_id = studio.after(lambda: studio.press("Draw 4", "#gallery .tile[data-model='tiny']"))
        studio.shown(job_id, 4)
        made = studio.job(job_id)
        assert (made["task"]["upscale"]["model"], made["params"]["steps"]) == ("tiny-up", 50), "at its best"
        wait_until(
            lambda: studio.driver.execute_script("return premieres") == [4, 4], 15, "each comes out of its noise"
        )
        assert not studio.all("#gallery .tile")
        studio.view(job_id, 2)
        studio.press("Denoising", "dialog.viewer")
        studio.see(".denoising .strips canvas")
        studio.press("More like this", "dialog.viewer")
        wait_until(lambda: len(studio.all("#like .ring a.picture")) == 9, 30, "eight neighbours are drawn")
        neighbour = studio.one("#like .ring figure:nth-child(2) a")
        address = str(neighbour.get_attribute("href")).split("=")[1]
        studio.click(neighbour)
        centre = f"#like .centre[href$='{address}']"
        wait_until(lambda: studio.all(centre), 5, "it is the centre")
        studio.click("#like .centre")
        studio.press("Copy link", "dialog.viewer")
        link = studio.driver.execute_script("return document.querySelector('dialog.viewer .link').textContent")
        second_driver.get(link)
        friend = Studio(second_driver, difuso.url, "desktop")
        picture = friend.see("dialog.viewer img.large")
        wait_until(lambda: picture.get_property("naturalWidth"), 5, "the picture is loaded")
        job, index = address.split("/")
        assert picture.get_attribute("src") == f"{difuso.url}/jobs/{job}/images/{index}"
        assert studio.errors() == friend.errors() == []
