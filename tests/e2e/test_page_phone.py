"""A phone: pictures come first, the form is a sheet from below, and the camera makes a portrait."""

from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys

from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("studio", ["phone"], indirect=True)]

SMALL = """
const all = [...document.querySelectorAll("a, button, input, select, summary")].filter(each => each.checkVisibility());
return all.map(each => {
  const { width, height } = (each.matches("[type=checkbox]") && each.closest("label") || each).getBoundingClientRect();
  return [each.outerHTML.slice(0, 80), width, height];
}).filter(([, width, height]) => Math.min(width, height) < 44);
"""
WIDE = "return document.documentElement.scrollWidth - innerWidth"
OUTSIDE = "return [document.activeElement].filter(each => !each.closest('dialog') && each !== document.body)"
BUTTON = "return document.querySelector('#form [type=submit]').getBoundingClientRect().bottom"


def test_the_form_is_a_sheet_that_holds_the_focus_and_back_closes_it(studio: Studio) -> None:
    first = studio.see("#gallery .tile .draw, #jobs a.picture")
    assert first.rect["y"] < 844, "what can be drawn, or was, comes first"
    studio.show_form()
    assert studio.driver.execute_script(WIDE) <= 0
    assert studio.driver.execute_script(SMALL) == []
    for _ in range(12):
        studio.keys(Keys.TAB)
        assert studio.driver.execute_script(OUTSIDE) == [], "the focus stays in it, or goes to the browser's own"
    studio.unfold()
    small = {"width": 390, "height": 400, "deviceScaleFactor": 1, "mobile": True}
    studio.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", small)
    wait_until(lambda: studio.driver.execute_script(BUTTON) <= 400, 5, "a keyboard does not hide the button")
    studio.driver.back()
    wait_until(lambda: not studio.form.is_displayed(), 5, "Back closes it")
    assert studio.driver.execute_script("return [location.hash, document.activeElement.id]") == ["", "open"]
    studio.load("#make")
    wait_until(studio.form.is_displayed, 5, "its address opens it")
    studio.keys(Keys.ESCAPE)
    wait_until(lambda: not studio.form.is_displayed(), 5, "Escape closes it")
    studio.shown(studio.make(), 4)
    assert not studio.form.is_displayed(), "pictures are seen"
    assert studio.driver.execute_script("return location.hash") in ("", "#gallery")
    studio.driver.execute_script("document.getElementById('train-tab').hidden = false")
    studio.pick(studio.one("#language"), "es")
    wait_until(lambda: "Cuadrícula" in studio.text("nav"), 10, "the page is Spanish")
    assert studio.driver.execute_script(WIDE) <= 0, "all five tabs have room"


def test_the_camera_makes_a_portrait_after_questions(studio: Studio, picture: Callable[[str], str], axe: str) -> None:
    studio.fill("model", "with-glasses")
    studio.choose("denoise")
    # No driver answers a camera: its input is put where a test can fill it.
    placed = "document.querySelector('dialog.sheet').append(this)"
    studio.driver.execute_script(f"HTMLInputElement.prototype.click = function () {{ {placed}; }}")
    studio.press("My portrait by with-glasses", "#form")
    camera = studio.one("dialog.sheet > input[accept='image/*']")
    assert camera.get_property("capture") == "user"
    camera.send_keys(picture("teal"))
    wait_until(lambda: "Is this right?" in studio.text("dialog.portrait"), 15, "the picture was looked at")
    assert "with-glasses knows only pictures like these" in studio.text("dialog.portrait")
    assert studio.axe(axe) == []
    studio.pick(studio.one("dialog.portrait select"), "eye patch")
    job = studio.done(studio.after(lambda: studio.press("Draw 4", "dialog.portrait")))
    assert (job["kind"], job["params"]["n"], job["params"]["conditions"]) == ("denoise", 4, {"glasses": ["eye patch"]})
    assert job["task"]["depth"] == 799, "strength 0.8"
    studio.shown(job["id"], 4)
    assert not studio.form.is_displayed()
