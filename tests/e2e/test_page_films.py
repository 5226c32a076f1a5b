"""Films on the page: a slider runs a picture from noise to finished, and an open picture shows and saves its film."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from difuso.model.noise import draw_noise, image_generator
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SIZE, STEPS, MOMENTS = 16, 14, 12
DRAWN = "const {width, height} = arguments[0];"
DRAWN += "return [...arguments[0].getContext('2d').getImageData(0, 0, width, height).data]"


def moments_of(studio: Studio, job: dict[str, Any], index: int) -> list[np.ndarray[Any, Any]]:
    film = httpx.get(f"{studio.url}{job['links']['images'][index]}/film").content
    return np.split(np.asarray(Image.open(io.BytesIO(film)).convert("RGB")).astype(int), MOMENTS, axis=1)


def drawn(studio: Studio, canvas: WebElement) -> np.ndarray[Any, Any]:
    data = studio.driver.execute_script(DRAWN, canvas)
    return np.array(data, np.uint8).reshape(SIZE, SIZE, 4)[:, :, :3].astype(int)


@at_both_widths
def test_a_slider_runs_a_picture_from_noise_to_finished(studio: Studio) -> None:
    job = studio.job(studio.made(2, steps=str(STEPS), seed="60"))
    figure = studio.one(f"#job-{job['id']} figure[data-index='1']")
    if studio.is_phone:
        studio.hold(figure)
    else:
        ActionChains(studio.driver).move_to_element(figure).perform()
    slider = studio.see(f"#job-{job['id']} figure[data-index='1'] .scrub")
    noise = draw_noise([image_generator(61)], (3, SIZE, SIZE))[0].permute(1, 2, 0).numpy()
    moments = [((noise + 1) * 127.5).clip(0, 255), *moments_of(studio, job, 1)]
    for moment in (0, 1, 6, MOMENTS):
        studio.slide(slider, moment)
        canvas = studio.see(f"#job-{job['id']} .frame")

        def is_seen(canvas: WebElement = canvas, moment: int = moment) -> bool:
            return bool(np.abs(drawn(studio, canvas) - moments[moment]).max() <= 1)

        wait_until(is_seen, 5, f"moment {moment} is seen")
    slider.send_keys(Keys.END)
    wait_until(lambda: not canvas.is_displayed(), 5, "the end is the picture itself")
    studio.slide(slider, 3)
    wait_until(canvas.is_displayed, 5, "a moment is seen")
    slider.send_keys(Keys.ESCAPE)
    wait_until(lambda: not canvas.is_displayed(), 5, "whoever leaves it sees the picture again")


def test_an_open_picture_shows_its_film_and_saves_it(studio: Studio, tmp_path: Path) -> None:
    job = studio.job(studio.made(1, steps=str(STEPS), seed="61"))
    studio.driver.execute_script("document.querySelector('#jobs a.picture').focus()")
    studio.keys("w")
    wait_until(lambda: studio.all(".frame:not([hidden])"), 5, "a key shows the film in the gallery")
    studio.keys(Keys.ESCAPE)
    studio.view(job["id"])
    studio.press("Denoising", "dialog.viewer")
    studio.slide(studio.see(".denoising input"), 2)
    assert studio.text(".denoising output") == f"2 / {MOMENTS}"
    shown = drawn(studio, studio.one(".denoising .both canvas"))
    assert np.abs(shown - moments_of(studio, job, 0)[1]).max() <= 1
    strips = studio.one(".denoising .strips")
    middle_of_first = strips.size["width"] // (2 * (MOMENTS + 2)) - strips.size["width"] // 2
    ActionChains(studio.driver, duration=20).move_to_element_with_offset(strips, middle_of_first, 0).click().perform()
    assert studio.text(".denoising output") == "the noise of the seed", "a click moves the playhead"
    studio.press("Play", "dialog.viewer")
    wait_until(lambda: "no noise left" in studio.text(".denoising output"), 10, "it plays to the end")
    studio.downloads(tmp_path)
    studio.press("Save as GIF", "dialog.viewer")
    with Image.open(studio.downloaded(tmp_path, "*.gif")) as film:
        assert film.n_frames == MOMENTS + 1  # type: ignore[attr-defined]
    studio.keys(Keys.ESCAPE)
    studio.view(studio.made(1, steps="1"))
    assert "Denoising" not in studio.text("dialog.viewer"), "a picture of one step has no moments"


# The page hears of a job that waits, and nothing more of it.
WAITING = """
const original = window.fetch;
window.fetch = (path, ...rest) => (path.startsWith("/jobs/1") ? new Promise(() => {}) : original(path, ...rest));
import("/static/store.js").then(({ jobs }) => {
  jobs.put({ id: "1", state: "queued", kind: "generate", model: "tiny", accepted_at: "3000-01-01T00:00:00Z", urgency: 3,
    params: { n: 2, steps: 50, seed: 60, sampler: "ddim", guidance_scale: 1 }, steps: { done: 0, total: 100 },
    timings: {}, links: { self: "/jobs/1", events: "/jobs/1/events" } });
  window.preview = index => jobs.preview("1", index, "/static/icon.svg");
});
"""


def test_a_picture_is_the_noise_that_it_begins_in_until_a_preview_comes(studio: Studio) -> None:
    studio.see("#jobs > article, #gallery .tile")
    studio.driver.execute_script(WAITING)
    first, second = (f"#job-1 figure[data-index='{index}']" for index in (0, 1))
    noise = draw_noise([image_generator(61)], (3, SIZE, SIZE))[0].permute(1, 2, 0).numpy()
    shown = drawn(studio, studio.see(f"{second} canvas"))
    assert np.abs(shown - ((noise + 1) * 127.5).clip(0, 255)).max() <= 1
    studio.driver.execute_script("preview(1)")
    assert studio.all(f"{second} img")
    assert not studio.all(f"{second} canvas")
    assert studio.all(f"{first} canvas"), "the other waits for its own"
