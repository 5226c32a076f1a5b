"""How it works: a picture is noised in the browser, the network looks at it once, and goes back step by step."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import partial

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from difuso.model.noise import draw_noise, image_generator, q_sample
from difuso.model.plans.schedule import NoiseSchedule
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

PIXELS = """
const canvas = document.querySelector(`#learn [data-shows=${arguments[0]}]`);
const { width, height } = canvas;
return [height, width, [...canvas.getContext("2d").getImageData(0, 0, width, height).data]];
"""
BARS = """
return [...document.querySelectorAll("#learn .progress a")].map(each => getComputedStyle(each).borderTopColor)
"""
NOISE = """
const [seed, shape, done] = arguments;
import("/static/learn/noise.js").then(({ noiseOf }) => done([...noiseOf(seed, shape)]));
"""


def pixels(studio: Studio, name: str) -> np.ndarray:
    """Returns the colours of a picture of the lesson, shape (H, W, 3)."""
    height, width, data = studio.driver.execute_script(PIXELS, name)
    return np.array(data, dtype=np.int64).reshape(height, width, 4)[:, :, :3]


def levels(x: torch.Tensor) -> np.ndarray:
    """Returns numbers in [-1, 1], shape (1, C, H, W), as grey levels before rounding, shape (H, W, C)."""
    return ((x[0].permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)


def asked(studio: Studio, **query: str | float) -> dict[str, np.ndarray]:
    """Returns what the server passes through from the same picture, as arrays."""
    teal = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(teal, "png")
    common: dict[str, str | float] = {"model": "tiny", "sampler": "ddim", "eta": 0, "spacing": "linspace"}
    headers = {"Accept": "application/x-npz"}
    files = {"image": teal.getvalue()}
    sent = httpx.post(f"{studio.url}/denoise", params=common | query, files=files, headers=headers, timeout=30)
    with np.load(io.BytesIO(sent.content)) as found:
        return dict(found)


def lessons(studio: Studio) -> dict[str, datetime]:
    """Returns the jobs that lessons have made, each with the end of its images' time."""
    jobs = httpx.get(f"{studio.url}/jobs", params={"tag": "page:unlisted", "limit": "100"}).json()["jobs"]
    return {each["id"]: datetime.fromisoformat(each["expires_at"]) for each in jobs if "expires_at" in each}


def opened(studio: Studio, screen: str, model: str = "tiny") -> NoiseSchedule:
    """Opens a screen of the lesson with the first picture of the model, all teal; returns the model's schedule."""
    studio.click("header nav a[href='#learn']")
    studio.see("#learn article")
    studio.pick(studio.one("#learn .controls select"), model)
    studio.see(f"#learn [data-model={model}]")
    studio.driver.execute_script("location.hash = `#learn=${arguments[0]}`", screen)
    studio.see(f"#learn [data-screen={screen}]")
    alphas = httpx.get(f"{studio.url}/models/{model}/schedule").json()["alphas_cumprod"]
    return NoiseSchedule.from_alphas_cumprod(np.array(alphas))


def move(studio: Studio, place: int) -> None:
    """Moves the slider of the screen, and waits until the pictures are those of its place."""
    script = "const [slider, value] = arguments; slider.value = value; slider.dispatchEvent(new Event('input'))"
    studio.driver.execute_script(script, studio.one("#learn input[type=range]"), place)
    wait_until(lambda: not studio.all("#learn .late"), 15, "the server has answered")


@pytest.mark.parametrize(
    ("seed", "shape"), [(0, (3, 16, 16)), (7, (1, 5, 7)), (2**32 + 5, (3, 11, 3)), (2**53 - 1, (3, 64, 64))]
)
def test_the_noise_of_a_seed_is_that_of_the_server(studio: Studio, seed: int, shape: tuple[int, int, int]) -> None:
    """Up to the rounding of float32, in which torch computes the logarithm, the cosine and the sine."""
    drawn = np.array(studio.driver.execute_async_script(NOISE, seed, shape)).reshape(*shape[1:], shape[0])
    expected = draw_noise([image_generator(seed)], shape)[0].permute(1, 2, 0).numpy()
    assert np.abs(drawn - expected).max() < 1e-5


def test_a_picture_is_noised_and_the_network_looks_at_it_once(studio: Studio) -> None:
    schedule = opened(studio, "noise")
    teal = torch.tensor([0.0, 128.0, 128.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16) / 127.5 - 1
    noise = draw_noise([image_generator(0)], (3, 16, 16))
    for timestep in (0, 300, 999):
        move(studio, timestep)
        expected = q_sample(schedule, teal, torch.tensor([timestep]), noise)
        assert np.abs(pixels(studio, "xt") - levels(expected)).max() <= 0.51, "rounded"
    before = pixels(studio, "noise")
    studio.press("Other noise", "#learn")
    wait_until(lambda: (pixels(studio, "noise") != before).any(), 5, "the noise is another")
    opened(studio, "prediction", "tiny")
    move(studio, 300)
    (x0,) = asked(studio, strength=0.301, seed=1, steps=1, trace="last")["x_0"][0]
    assert np.abs(pixels(studio, "guess") - ((x0 + 1) * 127.5).clip(0, 255)).max() <= 0.51


@at_both_widths
def test_the_chain_is_followed_step_by_step(studio: Studio) -> None:
    """From where the slider of t was; no job of it stays in the gallery."""
    earlier = lessons(studio).keys()
    opened(studio, "noise")
    move(studio, 600)
    opened(studio, "step")
    run = asked(studio, strength=0.601, seed=0, steps=8, trace="all")
    for step, state in enumerate(run["x_t"][0], start=1):
        move(studio, step)
        assert np.abs(pixels(studio, "state") - ((state + 1) * 127.5).clip(0, 255)).max() <= 0.51
    assert "no noise left" in studio.text("#learn output")
    wide = "return document.documentElement.scrollWidth - innerWidth"
    assert studio.driver.execute_script(wide) <= 0

    def are_over() -> bool:
        return all(end <= datetime.now(UTC) for job_id, end in lessons(studio).items() if job_id not in earlier)

    wait_until(are_over, 10, "their results are deleted")
    studio.click("header nav a[href='#gallery']")
    cards = ", ".join(f"#job-{job_id}" for job_id in lessons(studio).keys() - earlier)
    assert not studio.all(cards), "nor do they have cards"


def test_the_arrow_keys_lead_through_a_story_on_whose_screens_one_thing_moves(studio: Studio) -> None:
    opened(studio, "noise", "with-classes")
    seen = []

    def is_left(screen: str) -> bool:
        return not studio.all(f"#learn [data-screen={screen}]")

    for _ in range(8):
        screen = str(studio.one("#learn [data-screen]").get_attribute("data-screen"))
        seen.append(screen)
        assert len(studio.all("#learn article input, #learn article select")) == 1
        assert studio.text("#learn .progress [aria-current]")
        assert "Modelo bayesiano" in str(studio.one("#learn details a").get_property("textContent"))
        wait_until(lambda: not studio.all("#learn .late"), 30, "its pictures are drawn")
        assert studio.text("#learn .error") == ""
        if screen == "sampler":
            assert (pixels(studio, "ddim") == pixels(studio, "ddpm")).all(), "both begin with the same noise"
            move(studio, 20)
            assert (pixels(studio, "ddim") != pixels(studio, "ddpm")).any()
        if screen in ("guidance", "conditions", "calls"):
            before = pixels(studio, "drawn-0")
            move(studio, 2)
            assert (pixels(studio, "drawn-0") != before).any()
        studio.driver.execute_script("document.activeElement.blur()")
        studio.keys(Keys.ARROW_RIGHT)
        if screen != "calls":
            wait_until(partial(is_left, screen), 5, "the next one comes")
    assert seen == ["noise", "prediction", "step", "schedule", "sampler", "guidance", "conditions", "calls"]
    studio.keys(Keys.ARROW_LEFT)
    studio.see("#learn [data-screen=conditions]")
    assert studio.driver.execute_script("return location.hash") == "#learn=conditions"
    past, here, later = studio.driver.execute_script(BARS)[5:]
    assert len({past, here, later}) == 3, "the bar says how far one has come"
    studio.keys(Keys.ARROW_RIGHT)
    studio.press("Now draw one →", "#learn .onwards")
    studio.see("#gallery")
    assert studio.form.find_element(By.NAME, "model").get_property("value") == "with-classes"


def test_a_picture_of_the_gallery_is_looked_at_and_the_lesson_is_spanish(studio: Studio) -> None:
    job_id = studio.made(2, model="with-classes", label="square")
    studio.view(job_id, 1)
    studio.click("dialog.viewer a[href^='#learn=']")
    studio.see("#learn article")
    assert not studio.all("dialog.viewer")
    drawn = np.asarray(studio.pixels(studio.job(job_id)["links"]["images"][1]))
    assert (pixels(studio, "x0") == drawn).all()
    link = studio.driver.execute_script("return location.hash")
    studio.pick(studio.one("#language"), "es")
    wait_until(lambda: "se pierde en el ruido" in studio.text("#learn h2"), 10, "the lesson is Spanish")
    assert (pixels(studio, "x0") == drawn).all(), "it goes on with the same picture"
    studio.pick(studio.one("#learn .controls select"), "tiny")
    wait_until(lambda: pixels(studio, "x0").shape != drawn.shape, 10, "another model has other pictures")
    studio.click("header nav a[href='#gallery']")
    studio.driver.execute_script("location.hash = arguments[0]", link)
    wait_until(lambda: pixels(studio, "x0").shape == drawn.shape, 10, "the picture is asked for again")
