"""The page for all: what axe-core finds, and what the keyboard reaches."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)  # a dozen views, one after the other


@pytest.mark.slow
@at_both_widths
def test_axe_finds_nothing(studio: Studio, axe: str) -> None:
    """Neither on the page, nor in any of its dialogs and tools."""
    found: dict[str, list[str]] = {}

    def look(name: str) -> None:
        if violations := studio.axe(axe):
            found[name] = violations

    job_id = studio.made(2, model="with-classes", label="star")
    look("gallery")
    studio.click("[popovertarget=queue]")
    studio.see("#queue table")
    look("queue")
    studio.keys(Keys.ESCAPE)
    studio.view(job_id)
    studio.click("dialog.viewer summary")
    studio.see("dialog.viewer .terminal")
    look("viewer")
    studio.click("dialog.viewer .chip")
    studio.see("dialog.viewer .value img")
    look("values")
    studio.click("dialog.viewer .value:not(:has(:checked))")
    studio.see("dialog.viewer .old")
    look("changed")
    studio.press("Denoising", "dialog.viewer")
    studio.see("dialog.viewer .strips")
    look("film")
    studio.press("Restore", "dialog.viewer")
    wait_until(lambda: studio.button("Paint what is missing").is_enabled(), 5, "the picture is there")
    look("restore")
    studio.press("Paint what is missing")
    studio.see("dialog.mask canvas")
    look("mask")
    studio.keys(Keys.ESCAPE)
    studio.choose("interpolate")
    look("interpolate")
    studio.choose("denoise")
    look("denoise")
    studio.choose("upscale")
    look("enlarge")
    studio.choose("generate")
    studio.hide_form()
    studio.press("Wall")
    look("wall")
    studio.press("Wall")
    studio.keys("?")
    look("keys")
    studio.keys(Keys.ESCAPE)
    studio.show_form()
    studio.fill("model", "tiny")
    studio.click("#about")
    studio.see("dialog.model-card polyline")
    look("curves")
    studio.keys(Keys.ESCAPE)
    studio.show_form()
    studio.fill("model", "with-classes")
    studio.click("#about")
    studio.see("dialog.model-card .sample")
    look("model")
    studio.keys(Keys.ESCAPE)
    studio.click("#pick")
    look("picker")
    studio.keys(Keys.ESCAPE)
    studio.hide_form()
    studio.click("nav a[href='#grid']")
    studio.see("#grid .grid-form")
    look("grid")
    studio.driver.execute_script(f"location.hash = '#like={job_id}/0'")
    wait_until(lambda: len(studio.all("#like .ring a.picture")) == 9, 30, "a ring is drawn")
    look("like")
    studio.driver.execute_script(f"location.hash = '#compare={job_id}/0,{job_id}/1'")
    for mode in ("Side by side", "Divider", "Difference"):
        studio.press(mode, "#compare")
        look(mode)
    studio.click("nav a[href='#gallery']")
    studio.see("#gallery")  # where the reader was; only then is there something to scroll
    studio.driver.execute_script(f"document.getElementById('job-{job_id}').scrollIntoView()")
    picture = studio.see(f"#job-{job_id} a.picture")
    studio.driver.execute_script("arguments[0].focus()", picture)
    studio.keys("s")
    studio.see("#selection")
    look("selection")
    studio.driver.execute_script(
        "arguments[0].closest('figure').nextElementSibling.querySelector('a').focus()", picture
    )
    studio.keys("s")
    studio.press("Walk between", "#selection")
    wait_until(lambda: "Frame 1 of 60" in studio.text("#walk output"), 60, "a walk is drawn")
    look("walk")
    studio.click("nav a[href='#gallery']")
    studio.press("Clear", "#selection")
    studio.press("Delete all 2", f"#job-{job_id}")
    studio.see("#notices .note")
    studio.driver.execute_script("document.getElementById('lost').hidden = false")
    look("notices")
    assert found == {}


@pytest.mark.slow
def test_axe_finds_nothing_in_spanish(studio: Studio, axe: str) -> None:
    job_id = studio.made(1, model="with-glasses")
    studio.pick(studio.one("#language"), "es")
    wait_until(lambda: studio.text("#form button.main") == "Crear imágenes", 5, "the page is Spanish")
    found = {"gallery": studio.axe(axe)}
    studio.click("[popovertarget=queue]")
    studio.see("#queue table")
    found["queue"] = studio.axe(axe)
    studio.keys(Keys.ESCAPE)
    studio.view(job_id)
    found["viewer"] = studio.axe(axe)
    studio.keys(Keys.ESCAPE)
    for view, seen in {"grid": ".grid-form", "learn": "article"}.items():
        studio.click(f"nav a[href='#{view}']")
        studio.see(f"#{view} {seen}")
        found[view] = studio.axe(axe)
    assert not any(found.values()), found


@pytest.mark.slow
@at_both_widths
def test_axe_finds_nothing_in_the_lesson(studio: Studio, axe: str) -> None:
    studio.click("nav a[href='#learn']")
    found = {}
    for screen in ("noise", "prediction", "step", "schedule", "sampler", "guidance", "conditions", "calls"):
        studio.driver.execute_script("location.hash = `#learn=${arguments[0]}`", screen)
        studio.see(f"#learn [data-screen={screen}]")
        wait_until(lambda: not studio.all("#learn .late"), 30, "its pictures are drawn")
        if violations := studio.axe(axe):
            found[screen] = violations
    assert found == {}


def test_the_keyboard_reaches_everything(studio: Studio) -> None:
    job_id = studio.made(2, seed="90")
    studio.keys("?")
    assert "use its settings" in studio.see("dialog.keys").text
    studio.keys(Keys.ESCAPE)
    wait_until(lambda: not studio.all("dialog.keys"), 5, "the list closes")
    studio.driver.execute_script("document.activeElement.blur()")
    active = "return document.activeElement.dataset.index"
    first = "return document.querySelector(arguments[0])"
    studio.driver.execute_script(f"{first}.focus()", f"#job-{job_id} a.picture")
    studio.keys(Keys.ARROW_RIGHT)
    assert studio.driver.execute_script(active) == "1"
    studio.keys(Keys.ENTER)
    assert "eed 91" in studio.see("dialog.viewer").text
    studio.keys(Keys.ARROW_LEFT)
    wait_until(lambda: "eed 90" in studio.text("dialog.viewer h2"), 5, "the arrow shows the other picture")
    studio.keys("u")
    wait_until(lambda: not studio.all("dialog.viewer"), 5, "the viewer closes")
    assert studio.form.find_element(By.CSS_SELECTOR, "#seeds input").get_property("value") == "90"
    studio.driver.execute_script("document.activeElement.blur()")
    studio.keys("4")
    assert studio.one("#kind").get_property("value") == "restore"
    studio.keys("g")
    wait_until(lambda: studio.one("#grid").is_displayed(), 5, "the grid is shown")
    studio.keys("g")
    wait_until(lambda: studio.one("#gallery").is_displayed(), 5, "the gallery is shown")
