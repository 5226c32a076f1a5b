"""How well the page is made: languages, layout, weight, API keys, and pixels that stay sharp."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.app_server import keys_file
from tests.serving import ENVIRONMENT, running
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

WEIGHT = 120_000  # bytes


def test_the_language_is_the_readers_and_a_choice_stays(studio: Studio) -> None:
    job_id = studio.made(1)
    studio.pick(studio.one("#language"), "es")
    wait_until(lambda: studio.button("Crear imágenes").is_displayed(), 5, "the form is Spanish")
    wait_until(lambda: "1 imagen" in studio.text(f"#job-{job_id} h3"), 5, "and so are the cards")
    studio.load()
    wait_until(lambda: "1 imagen" in studio.text(f"#job-{job_id} h3"), 10, "it stays so")
    assert studio.driver.execute_script("return document.documentElement.lang") == "es"
    studio.driver.execute_script("localStorage.removeItem('difuso-language')")
    override = {"userAgent": "test", "acceptLanguage": "es-AR"}
    studio.driver.execute_cdp_cmd("Emulation.setUserAgentOverride", override)
    try:
        studio.load()
        assert studio.text("#form button.main") == "Crear imágenes"
    finally:
        agent = studio.driver.execute_cdp_cmd("Browser.getVersion", {})["userAgent"]
        english = {"userAgent": agent, "acceptLanguage": "en-US"}
        studio.driver.execute_cdp_cmd("Emulation.setUserAgentOverride", english)


@at_both_widths
def test_every_form_and_what_the_server_refuses_is_spanish(studio: Studio) -> None:
    studio.made()  # so that there is something to filter
    studio.pick(studio.one("#language"), "es")
    studio.unfold()
    wait_until(lambda: studio.button("Crear imágenes").is_displayed(), 5, "the form is Spanish")
    studio.pick(studio.one("#form [name=sampler]"), "unipc")
    studio.fill("steps", "900")
    studio.driver.execute_script("document.querySelector('#form [name=steps]').removeAttribute('max')")
    studio.fill("steps", "4000")
    wait_until(lambda: "La petición no es válida. Pasos: debe" in studio.text("#price"), 10, "so is the refusal")
    assert all("422" in each for each in studio.errors())
    filters = studio.texts("#filters select option:first-child")
    assert len(set(filters)) == 3
    cut = "return [...document.querySelectorAll('#filters select')].map(each => each.offsetWidth)"
    assert min(studio.driver.execute_script(cut)) >= 90, "their words have room"
    studio.fill("model", "with-glasses")
    assert studio.texts("#conditions option") == ["cualquiera", "ningunas", "parche"], "in the words of the model"
    assert studio.text("#conditions label").startswith("Gafas")
    studio.choose("upscale")
    assert "Ruido añadido antes" in studio.text("#form")
    assert [each.get_attribute("name") for each in studio.all("#form [name=fit]")] == ["fit"]


VISIBLE = """
const { top, bottom } = document.querySelector("#form button[type=submit]").getBoundingClientRect();
return top >= 0 && bottom <= innerHeight && scrollY === 0;
"""


@at_both_widths
def test_the_button_of_every_form_is_seen_on_a_small_screen(studio: Studio) -> None:
    """Without scrolling, on 1366x768 and on a phone."""
    if not studio.is_phone:
        small = {"width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": False}
        studio.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", small)
    for kind in ("generate", "interpolate", "denoise", "restore", "upscale"):
        studio.choose(kind)
        studio.driver.execute_script("document.querySelector('#form details').open = true")
        assert studio.driver.execute_script(VISIBLE), kind


SHIFTS = """
window.shifted = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def shifted(studio: Studio) -> float:
    """The layout shift since the page was loaded that no input has caused."""
    done = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(window.shifted)))"
    return float(studio.driver.execute_async_script(done))


@at_both_widths
def test_jobs_come_and_go_without_moving_the_page(studio: Studio) -> None:
    studio.made(2)
    studio.driver.execute_script(SHIFTS)
    before = shifted(studio)
    job_id = studio.made(4, steps="60")
    assert shifted(studio) - before < 0.1
    place = "return document.getElementById('gallery').getBoundingClientRect().top + scrollY"
    top = studio.driver.execute_script(place)
    busy = {"Prefer": "respond-async"}
    other = httpx.post(f"{studio.url}/generate?n=8&steps=1000", headers=busy).json()["id"]
    try:
        wait_until(lambda: studio.text("#queue-count") == "1", 15, "a job is in the queue")
        moved = studio.driver.execute_script(place) - top
        assert abs(moved) < 1, "the queue moves nothing; a browser rounds where it has scrolled to"
    finally:
        httpx.delete(f"{studio.url}/jobs/{other}")
    studio.load()
    studio.shown(job_id, 4)
    studio.driver.execute_script(SHIFTS)
    assert shifted(studio) < 0.1, "nor does loading"


@at_both_widths
def test_pixels_are_shown_at_whole_multiples(studio: Studio) -> None:
    job_id = studio.made(1)
    image = studio.one(f"#job-{job_id} a.picture img")
    shown, natural, style = studio.driver.execute_script(
        "const [image] = arguments, width = image.getBoundingClientRect().width;"
        "return [width, image.naturalWidth, getComputedStyle(image).imageRendering]",
        image,
    )
    assert style == "pixelated"
    assert shown % natural == 0
    studio.view(job_id)
    large = studio.see("dialog.viewer img.large")
    width = float(studio.driver.execute_script("return arguments[0].getBoundingClientRect().width", large))
    assert width % natural == 0
    assert width >= 2 * natural


@at_both_widths
def test_nothing_is_wider_than_the_window(studio: Studio) -> None:
    studio.made(4)
    wide = "return document.documentElement.scrollWidth - innerWidth"
    assert studio.driver.execute_script(wide) <= 0
    studio.click("nav a[href='#grid']")
    studio.see("#grid .grid-form")
    assert studio.driver.execute_script(wide) <= 0


def test_the_page_is_light_and_repeats_no_request(studio: Studio) -> None:
    """Without pictures it weighs at most 120 kB on the way, and no request comes twice within a second."""
    studio.driver.execute_cdp_cmd("Network.enable", {})
    studio.driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    try:
        studio.load()
    finally:
        studio.driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})
    script = """
    const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    return all.map(each => [each.name, each.transferSize, each.startTime, each.initiatorType]);
    """
    first = studio.driver.execute_script(script)
    assert any(name.endswith("/form.js") for name, *_ in first)
    assert not [name for name, *_ in first if not name.startswith(studio.url)]
    plain = [(name, size) for name, size, *_ in first if "/jobs" not in name and "/figures/" not in name]
    assert sum(size for _, size in plain) <= WEIGHT, sorted(plain, key=lambda each: -each[1])[:5]
    busy = httpx.post(f"{studio.url}/generate?n=16&steps=400", headers={"Prefer": "respond-async"}).json()["id"]
    wait_until(lambda: studio.job(busy)["state"] != "queued", 20, "a job runs")
    studio.fill("n", "3")
    studio.fill("n", "5")
    wait_until(lambda: "250 steps" in studio.text("#price"), 10, "the price is shown")
    wait_until(lambda: studio.driver.execute_script("return performance.now()") > 6000, 10, "the page has looked twice")
    httpx.delete(f"{studio.url}/jobs/{busy}")
    times = defaultdict(list)
    for name, _, start, kind in studio.driver.execute_script(script):
        if kind != "navigation":
            times[name].append(start)
    repeated = {
        name: all_
        for name, all_ in times.items()
        if any(b - a < 1000 for a, b in zip(sorted(all_), sorted(all_)[1:], strict=False)) and "/images/" not in name
    }
    assert repeated == {}


SOURCES = (
    "return [...document.querySelectorAll('#jobs a.picture img')].flatMap(each => each.naturalWidth ? each.src : [])"
)


@pytest.mark.usefixtures("redis_server")
def test_with_a_key_pictures_come_by_signed_links_and_by_the_key_once_a_link_is_over(
    driver: webdriver.Chrome, models_dir: Path, tmp_path: Path
) -> None:
    ours = {"DIFUSO_MODELS_DIR": str(models_dir), "DIFUSO_API_KEYS_FILE": str(keys_file(tmp_path))}
    with running(tmp_path, ENVIRONMENT | ours) as guarded:
        studio = Studio(driver, guarded.url, "desktop")
        driver.get(guarded.url)
        studio.see("#access").find_element(By.ID, "key").send_keys("alice-key")
        studio.press("Continue", "#access")
        wait_until(lambda: studio.all("#form [name=sampler] option + option"), 15, "the form is filled")
        studio.form = studio.one("#form")
        studio.fill("n", "2")
        studio.click("#form button[type=submit]")
        wait_until(lambda: len(driver.execute_script(SOURCES)) == 2, 20, "both pictures are shown")
        source = driver.execute_script(SOURCES)[0]
        assert "signature=" in source
        assert httpx.get(source).headers["content-type"] == "image/png"
        over = "arguments[0].href = arguments[0].href.replace(/expires=[0-9]+/, 'expires=1'); arguments[0].focus()"
        driver.execute_script(over, studio.see("#jobs a.picture"))
        studio.downloads(tmp_path)
        studio.keys("d")
        assert studio.downloaded(tmp_path, "*.png").read_bytes().startswith(b"\x89PNG")
        assert not studio.one("#access").is_displayed()
