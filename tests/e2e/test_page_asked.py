"""What the page asks for again, and how it says so as code, is what was asked; and no view loses its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Keys

from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

ROWS = "\nrows"  # the label by which the form asks for a row of each class


def imported(studio: Studio, module: str, expression: str) -> Any:
    """The value of a JavaScript expression with a module as `it`."""
    script = f"const done = arguments[0]; import('/static/{module}.js').then(it => done({expression}))"
    return studio.driver.execute_async_script(script)


def test_the_code_of_a_picture_has_its_conditions(studio: Studio, tmp_path: Path) -> None:
    studio.fill("model", "with-glasses")
    studio.fill("condition:glasses", "eye patch")
    job_id = studio.made(2, seed="50")
    studio.view(job_id, 1)
    studio.click("dialog.viewer summary")
    code = studio.see("dialog.viewer .terminal pre")
    studio.press("difuso", "dialog.viewer .terminal")
    assert "--condition 'glasses:eye patch'" in code.text
    studio.press("Python", "dialog.viewer .terminal")
    made: dict[str, Any] = {}
    exec("\n".join(code.text.splitlines()[:4]), made)  # all but saving the picture
    with made["client"]:
        assert list(made["pictures"].pngs) == [httpx.get(f"{studio.url}/jobs/{job_id}/images/1").content]


def test_the_code_of_a_picture_names_the_files_of_its_conditions(studio: Studio, tmp_path: Path) -> None:
    Image.fromarray((np.arange(64).reshape(8, 8) % 2).astype(np.uint8)).save(tmp_path / "layout.png")
    studio.fill("model", "traits")
    studio.fill("condition:style", "0.5, -1")
    studio.fill("condition:layout", str(tmp_path / "layout.png"))
    studio.view(studio.made(1))
    studio.click("dialog.viewer summary")
    code = studio.see("dialog.viewer .terminal pre")
    studio.press("Python", "dialog.viewer .terminal")
    assert 'conditions={"style": [0.5, -1], "layout": Path("layout.png")}' in code.text
    assert "fit" not in code.text, "which /generate does not know"
    assert not studio.all("dialog.viewer .terminal .tabs button:nth-child(3)"), "the command line takes no such file"


def test_settings_are_filled_in_as_they_were(studio: Studio) -> None:
    studio.load("#make?kind=generate&model=tiny&upscale=tiny-up&upscale_steps=9")
    value = "return document.querySelector('#form [name=upscale_steps]').value"
    wait_until(lambda: studio.driver.execute_script(value) == "9", 10, "the steps of the second stage are filled in")
    studio.load("#make?kind=generate&model=traits&condition=age:25.5")
    value = "return document.querySelector('#conditions [type=range]').value"
    wait_until(lambda: studio.driver.execute_script(value) == "25.5", 10, "the age is not rounded")


def test_there_is_a_walk_only_between_pictures_with_the_same_conditions(studio: Studio) -> None:
    def choose(label: str, seed: str) -> None:
        job_id = studio.made(1, model="with-classes", label=label, seed=seed)
        studio.driver.execute_script(f"document.querySelector('#job-{job_id} a.picture').focus()")
        studio.keys("s")

    choose("star", "61")
    choose("star", "62")
    assert studio.button("Walk between", "#selection").is_enabled()
    choose("circle", "63")
    assert not studio.button("Walk between", "#selection").is_enabled()


def test_each_tab_keeps_the_file_of_its_own_form(studio: Studio, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    file = "return document.querySelector('#form [name=image]:enabled')?.files[0]?.name"
    driver, first = studio.driver, studio.driver.current_window_handle

    def take(name: str) -> None:
        studio.choose("denoise")
        studio.fill("image", str(tmp_path / f"{name}.png"))
        wait_until(lambda: kept_in(studio), 10, "the file is kept")

    take("mine")
    driver.switch_to.new_window("tab")
    try:
        studio.load()
        take("other")
    finally:
        driver.close()
        driver.switch_to.window(first)
    studio.load()
    wait_until(lambda: driver.execute_script(file) == "mine.png", 10, "the file is that of this tab")


def kept_in(studio: Studio) -> bool:
    script = """
    const done = arguments[0];
    import('/static/saved.js').then(it => it.recall(sessionStorage['difuso-tab']))
      .then(found => done(Boolean(found?.files.some(([, file]) => file))));
    """
    return bool(studio.driver.execute_async_script(script))


def test_a_pasted_link_to_a_picture_leads_to_the_gallery(studio: Studio) -> None:
    job_id = studio.made(1)
    studio.load("#grid")
    studio.see("#grid form")
    studio.driver.execute_script(f"location.replace('#picture={job_id}/0')")
    studio.see("dialog.viewer")
    studio.keys(Keys.ESCAPE)
    studio.see(f"#job-{job_id}")
    assert not studio.one("#grid").is_displayed()


@pytest.mark.parametrize("view", ["#grid", "#gallery"])
def test_arrows_choose_pictures_in_the_gallery_and_scroll_elsewhere(studio: Studio, view: str) -> None:
    studio.made(1)
    studio.load(view)
    prevented = """
    const event = new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true, cancelable: true});
    document.body.dispatchEvent(event);
    return event.defaultPrevented;
    """
    studio.see("#grid form" if view == "#grid" else "#jobs a.picture")
    assert studio.driver.execute_script(prevented) is (view == "#gallery")


def test_only_a_click_outside_closes_a_dialog(studio: Studio) -> None:
    """Neither one on its own edge, nor a selection of text that ends outside."""
    studio.click("#help")
    dialog = studio.see("dialog.keys")
    outside = -dialog.size["width"] // 2 - 20
    mouse = ActionChains(studio.driver, duration=20)
    mouse.move_to_element_with_offset(dialog, 0, 5 - dialog.size["height"] // 2).click()
    mouse.move_to_element(studio.one("dialog.keys dd")).click_and_hold()
    mouse.move_to_element_with_offset(dialog, outside, 0).release().perform()
    assert studio.all("dialog.keys")
    ActionChains(studio.driver, duration=20).move_to_element_with_offset(dialog, outside, 0).click().perform()
    wait_until(lambda: not studio.all("dialog.keys"), 5, "it is closed")


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


def test_the_name_of_a_file_that_cannot_be_shown_stays(studio: Studio, tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.zeros((16, 16, 3), np.uint8))
    studio.choose("restore")
    studio.fill("image", str(tmp_path / "numbers.npy"))

    def said() -> list[str]:
        return [each.text for each in studio.all("#form .drop-words") if each.is_displayed()]

    wait_until(lambda: "numbers.npy" in said(), 5, "its name is shown")
    studio.pick(studio.one("#language"), "es")
    wait_until(lambda: "Elige, suelta o pega" in said(), 5, "the empty field speaks Spanish")
    assert "numbers.npy" in said()
    studio.press("Quitar", "#form")
    assert set(said()) == {"Elige, suelta o pega"}


def test_what_differs_between_pictures_is_left_open(studio: Studio) -> None:
    """A model that deals its conditions deals each seed the same again, and the form could say one of them only."""
    query = {"model": "with-glasses", "steps": "3", "n": "2", "condition": ["glasses:none", "glasses:eye patch"]}
    job_id = httpx.post(f"{studio.url}/generate", params=query, timeout=30).headers["X-Job-Id"]
    studio.shown(job_id, 2)
    studio.press("Use these settings", f"#job-{job_id}")
    assert studio.see("#conditions select").get_property("value") == ""
    studio.view(job_id, 1)
    studio.press("Use these settings", "dialog.viewer")
    value = "return document.querySelector('#conditions select').value"
    wait_until(lambda: studio.driver.execute_script(value) == "eye patch", 10, "that of one picture is filled in")


def test_the_form_asks_for_nothing_that_its_kind_refuses(studio: Studio) -> None:
    assert studio.one("#plans").is_displayed()
    studio.choose("restore")
    assert not studio.one("#plans").is_displayed()
    assert "plan" not in imported(studio, "form", "String(it.readForm().query)")
    studio.choose("generate")
    assert studio.one("#plans").is_displayed()
    studio.fill("model", "with-classes")
    studio.fill("label", ROWS)
    studio.choose("interpolate")
    assert imported(studio, "form", "it.readForm().query.get('label')") in (None, "circle")


def test_a_strength_between_the_steps_of_its_slider_is_kept(studio: Studio) -> None:
    studio.load("#make?kind=denoise&model=tiny&strength=0.25")
    asked = "String(it.readForm().query.get('strength'))"
    wait_until(lambda: imported(studio, "form", asked) == "0.25", 10, "the strength is not rounded")
    slider = studio.form.find_element("name", "strength")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("step") == "0.02"


def test_a_double_click_opens_one_picture(studio: Studio) -> None:
    """Also before the browser has loaded the code that shows it."""
    job_id = studio.made(1)
    studio.load()
    picture = studio.see(f"#job-{job_id} a.picture")
    ActionChains(studio.driver).double_click(picture).perform()
    studio.see("dialog.viewer")
    assert len(studio.all("dialog.viewer")) == 1
    studio.keys(Keys.ESCAPE)
    wait_until(lambda: not studio.all("dialog.viewer"), 10, "it is closed")
    wait_until(lambda: "picture" not in studio.driver.current_url, 10, "its address is left")
