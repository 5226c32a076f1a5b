"""Small things that visitors of the page stumbled over."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from PIL import Image
from selenium.webdriver import ActionChains

from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}


def test_the_second_click_of_a_double_click_presses_no_other_button(studio: Studio) -> None:
    first, second = studio.made(2, seed="90"), studio.made(2, seed="92")
    studio.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardSanitizedWrite"]})
    studio.view(second)
    button = studio.button("Copy link", "dialog.viewer")
    width = button.size["width"]
    ActionChains(studio.driver).double_click(button).perform()
    wait_until(lambda: button.text == "Copied", 5, "the link is copied")
    assert button.size["width"] >= width, "the next button stays where it was"
    studio.click("dialog.viewer .close")
    wait_until(lambda: not studio.all("dialog.viewer"), 5, "the picture is closed")
    ActionChains(studio.driver).double_click(studio.button("Delete all 2", f"#job-{second}")).perform()
    wait_until(lambda: not studio.all(f"#job-{second}"), 5, "its card goes")
    assert studio.all(f"#job-{first}"), "the card that takes its place stays"
    studio.press("Undo", "#notices")


def test_the_brush_shows_what_of_a_picture_is_cropped(studio: Studio, tmp_path: Path) -> None:
    portrait = tmp_path / "portrait.png"
    Image.new("RGB", (30, 60), "white").save(portrait)
    studio.choose("restore")
    studio.fill("image", str(portrait))
    corners = "const canvas = document.querySelector('.mask canvas');"
    corners += "return [2, 30, 57].map(y => canvas.getContext('2d').getImageData(15, y, 1, 1).data[0])"
    studio.click("#paint")
    studio.see(".mask canvas")
    above, middle, below = studio.driver.execute_script(corners)
    assert (middle, above, below) == (255, below, above)
    assert above < 100
    assert "cropped" in studio.text(".mask .hint")
    studio.click("dialog.mask .close")
    studio.fill("fit", "contain")
    studio.click("#paint")
    studio.see(".mask canvas")
    assert set(studio.driver.execute_script(corners)) == {255}
    assert "cropped" not in studio.text(".mask .hint")


def test_settings_are_said_where_they_are_folded(studio: Studio) -> None:
    assert studio.text("#form summary") == "More parameters"
    studio.fill("steps", "300")
    studio.fill("seed", "7")
    assert ", 300 steps" in studio.text("#facts")
    studio.fill("n", "2")  # so that the field of the seed is left
    studio.load()
    assert not studio.all("#form details[open]")
    assert studio.text("#form summary") == "More parameters: Steps 300, Seeds 7"
    assert ", 300 steps" in studio.text("#facts")


def test_views_open_at_their_top_and_the_gallery_where_it_was(studio: Studio) -> None:
    for seed in range(3):
        studio.made(16, seed=str(100 * seed))
    scrolled = "return Math.round(scrollY)"
    studio.driver.execute_script("scrollTo(0, 300)")
    for view in ("learn", "grid"):
        studio.driver.execute_script("location.hash = arguments[0]", f"#{view}")
        studio.see(f"#{view} h2")
        assert studio.driver.execute_script(scrolled) == 0, view
        studio.driver.execute_script("scrollTo(0, 50); location.hash = '#gallery'")
        wait_until(lambda: studio.driver.execute_script(scrolled) == 300, 5, "the gallery is where it was")


def test_a_view_that_is_on_its_way_says_so(studio: Studio) -> None:
    studio.driver.execute_cdp_cmd("Network.enable", {})
    studio.driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE | {"offline": False, "latency": 600})
    try:
        studio.click("nav a[href='#learn']")
        wait_until(lambda: studio.text("#learn") == "Loading \u2026", 5, "the page says so")
    finally:
        studio.driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE | {"offline": False})
    studio.see("#learn h2")
    wait_until(lambda: "Loading" not in studio.text("#learn"), 10, "and takes it back")


def test_a_part_that_a_lost_server_cannot_send_is_named_as_that_and_comes_later(studio: Studio) -> None:
    studio.driver.execute_cdp_cmd("Network.enable", {})
    studio.driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
    try:
        studio.click("#about")
        wait_until(lambda: "does not answer" in studio.alarm, 10, "the page says why")
    finally:
        studio.driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE | {"offline": False})
    wait_until(lambda: not studio.alarm, 15, "the page takes it back")
    studio.click("#about")
    studio.see("dialog.model-card")
    assert all("ERR_INTERNET_DISCONNECTED" in each for each in studio.errors())


def test_the_card_of_a_model_names_this_server_and_its_plot_has_numbers(studio: Studio) -> None:
    studio.fill("model", "tiny")
    studio.click("#about")
    studio.see(".scatter .point")
    assert all(studio.texts(".scatter .tick"))
    assert len(studio.texts(".scatter .tick")) == 4
    card = httpx.get(f"{studio.url}/models/tiny/card").text
    assert "http://127.0.0.1:8000/generate" in card
    assert f"{studio.url}/generate" in studio.text(".description")


def test_long_names_break_between_their_words(studio: Studio) -> None:
    script = "const [name, done] = arguments; import('/static/texts.js').then(({ breakable }) => done(breakable(name)))"
    found = studio.driver.execute_async_script(script, "HerbaceousVegetation T-shirt")
    assert found == "Herbaceous\u200bVegetation T-shirt"
