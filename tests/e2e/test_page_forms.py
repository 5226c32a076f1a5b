"""The forms of the page in a real browser: what a model can be asked for, and a server that sleeps or is lost."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SIZE = 16


def test_a_plan_of_the_model_can_be_chosen(studio: Studio) -> None:
    studio.fill("plan", "few")
    studio.fill("n", "1")
    job_id = studio.make()
    assert "ddim, 3 steps" in studio.shown(job_id, 1)


def test_guidance_acts_on_an_interval_of_noise_levels(studio: Studio) -> None:
    studio.unfold()
    studio.fill("model", "tiny")  # which nothing can guide
    assert not studio.form.find_element(By.NAME, "guidance_low").is_displayed()
    studio.fill("model", "with-guide")
    low = studio.form.find_element(By.NAME, "guidance_low")
    assert low.is_displayed()
    assert low.get_attribute("placeholder") == "no limit"
    job_id = studio.made(guidance_low="0.5", guidance_high="20")
    params = studio.job(job_id)["params"]
    assert (params["guidance_low"], params["guidance_high"]) == (0.5, 20)
    facts = studio.view(job_id).text
    assert "Guidance above noise \u03c3\n0.5" in facts
    assert "Guidance up to noise \u03c3\n20" in facts


def offered(studio: Studio) -> list[str]:
    options = studio.form.find_elements(By.CSS_SELECTOR, "[name=model] option")
    return [option.get_attribute("value") or "" for option in options if option.get_attribute("hidden") is None]


def test_a_picture_is_enlarged_by_a_model_that_can_do_that(studio: Studio, picture: Callable[[str], str]) -> None:
    """Only such a model is offered then, and for all else only the others."""
    assert "tiny-up" not in offered(studio)
    studio.choose("upscale")
    assert offered(studio) == ["tiny-up"]
    for name, value in {"image": picture("teal"), "n": "2", "steps": "3"}.items():
        studio.fill(name, value)
    job = studio.done(studio.make())
    studio.shown(job["id"], 2)
    assert job["model"] == "tiny-up"
    buttons = "dialog.viewer section .tools button"
    studio.choose("generate")
    studio.view(studio.made(1, model="tiny"))
    assert "Enlarge: tiny-up" in studio.texts(buttons)
    studio.keys(Keys.ESCAPE)
    studio.view(job["id"])
    assert not any("Enlarge" in each for each in studio.texts(buttons)), "no model enlarges what is as large"
    studio.keys(Keys.ESCAPE)
    assert studio.pixels(job["links"]["images"][0]).size == (2 * SIZE, 2 * SIZE)
    studio.choose("denoise")
    assert "tiny-up" not in offered(studio)


def test_generated_pictures_are_enlarged_in_the_same_job(studio: Studio) -> None:
    job_id = studio.made(1, upscale="tiny-up", upscale_steps="2", upscale_augmentation="0.25")
    assert "enlarged by tiny-up" in studio.text(f"#job-{job_id}")
    studio.press("Use these settings", f"#job-{job_id}")
    assert studio.form.find_element(By.NAME, "upscale").get_property("value") == "tiny-up"
    studio.press("Code", f"#job-{job_id}")
    assert "upscale=tiny-up&upscale_steps=2&upscale_augmentation=0.25" in studio.see(f"#job-{job_id} pre").text
    studio.fill("model", "with-classes")
    assert not studio.form.find_element(By.NAME, "upscale").is_displayed(), "no model enlarges pictures of this size"


def test_noise_that_came_with_a_request_is_not_left_out_in_silence(studio: Studio) -> None:
    noise = io.BytesIO()
    np.save(noise, np.zeros((SIZE, SIZE, 3), np.float32))
    query, files = "model=tiny&steps=3&seed=7", {"noise": noise.getvalue()}
    job_id = httpx.post(f"{studio.url}/generate?{query}", files=files).raise_for_status().headers["X-Job-Id"]
    studio.load()
    studio.press("Code", f"#job-{job_id}")
    code = studio.see(f"#job-{job_id} .terminal")
    for name, part in (
        ("curl", "-F 'noise=@noise.npy'"),
        ("Python", 'noise="noise.npy"'),
        ("difuso", "--noise noise.npy"),
    ):
        studio.press(name, f"#job-{job_id} .terminal")
        assert part in code.text
    assert "began in noise that came with the request" in code.text
    studio.press("Use these settings", f"#job-{job_id}")
    wait_until(lambda: "give it again, as part noise" in studio.text("#notices"), 5, "the form says so too")


# The server lists its models without those in `gone`, and with another.
MODELS = """
const [gone, done] = arguments;
const original = (window.original ??= window.fetch);
window.fetch = async (path, options) => {
  if (path !== "/models") return original(path, options);
  const { default: name, models } = await (await original(path, options)).json();
  const other = { ...models.find(each => each.name === "tiny"), name: "newcomer", documents: [] };
  return Response.json({ default: name, models: [...models.filter(each => !gone.includes(each.name)), other] });
};
import("/static/models.js").then(it => it.loadModels()).then(done);
"""


def test_models_come_and_go_while_the_page_is_open(studio: Studio) -> None:
    def offered(menu: str) -> tuple[str, set[str]]:
        values = "[menu.value, ...[...menu.options].map(option => option.value)]"
        script = f"const menu = document.querySelector(arguments[0]); return {values}"
        chosen, *names = studio.driver.execute_script(script, menu)
        return chosen, set(names)

    studio.fill("model", "with-glasses")
    studio.fill("condition:glasses", "eye patch")
    studio.pick(studio.one("#filters [name=model]"), "with-guide")
    served = offered("#model")[1]
    studio.driver.execute_async_script(MODELS, ["with-guide"])
    assert offered("#model") == ("with-glasses", served - {"with-guide"} | {"newcomer"})
    assert studio.one("#conditions select").get_property("value") == "eye patch", "its values stay"
    chosen, names = offered("#filters [name=model]")
    assert chosen == "with-guide", "which has jobs"
    assert "newcomer" in names
    studio.driver.execute_async_script(MODELS, ["with-glasses"])
    assert offered("#model") == ("tiny", served - {"with-glasses"} | {"newcomer"})
    assert not studio.all("#conditions select")


# The server does not list its models at first, and then has no worker for them yet.
WAKING = """
const original = window.fetch;
let asked = 0;
window.fetch = async (path, options) => {
  if (path !== "/models" || ++asked > 2) return original(path, options);
  if (asked === 1) throw new TypeError("no answer");
  const list = await (await original(path, options)).json();
  return Response.json({ ...list, models: list.models.map(each => ({ ...each, state: "unknown", rate: undefined })) });
};
"""


def test_a_server_that_wakes_up_is_awaited(studio: Studio) -> None:
    studio.made(1)  # so that the speed is known
    added = studio.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WAKING})
    try:
        studio.load()
    finally:
        studio.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert studio.alarm == ""
    assert "no worker yet" in studio.text("#facts")
    wait_until(lambda: "steps/s" in studio.text("#facts"), 20, "the page knows of the worker")


def test_a_lost_server_is_said_and_unsaid(studio: Studio) -> None:
    """Though nobody presses anything."""
    lost = "const original = window.fetch; window.fetch = async (...asked) => {"
    lost += "if (window.away) throw new TypeError('no answer'); return original(...asked) }; window.away = true"
    studio.driver.execute_script(lost)
    wait_until(lambda: studio.one("#lost").is_displayed(), 15, "the page says that the server is lost")
    studio.click("#form button[type=submit]")
    wait_until(lambda: "does not answer" in studio.alarm, 5, "so does the form")
    for strip in ("#lost", "#live.lost"):
        shown = studio.see(strip, 10).text
        assert re.search(r"next try in [0-5] s", shown, re.IGNORECASE), shown
    studio.driver.execute_script("window.away = false")
    studio.press("Try now", "#lost")
    wait_until(lambda: not studio.one("#lost").is_displayed(), 10, "the page takes it back")
    wait_until(lambda: "worker" in studio.text("#live"), 5, "the strip shows the workers again")
    assert studio.alarm == ""
