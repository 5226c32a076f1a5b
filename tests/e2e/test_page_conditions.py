"""Conditions on the page: a field for each, by its type; a surprise; and a grid that sweeps one."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until


@pytest.fixture
def layout(tmp_path: Path) -> str:
    path = tmp_path / "layout.png"
    Image.fromarray((np.arange(64).reshape(8, 8) % 2).astype(np.uint8)).save(path)
    return str(path)


def fill_in(studio: Studio, layout: str) -> None:
    """Fills in what `traits` needs."""
    studio.fill("model", "traits")
    studio.fill("condition:style", "0.5, -1")
    studio.fill("condition:layout", layout)


def conditions_of(studio: Studio, job_id: str) -> dict[str, Any]:
    conditions: dict[str, Any] = studio.job(job_id)["params"]["conditions"]
    return {name: values for name, values in conditions.items() if name not in ("layout", "sketch")}


@at_both_widths
def test_each_condition_has_a_field_of_its_type(studio: Studio, layout: str) -> None:
    assert not studio.all("#conditions [name]"), "tiny has no conditions"
    assert not studio.one("#surprise").is_displayed()
    fill_in(studio, layout)
    fields = {
        str(each.get_attribute("name")): (each.tag_name, each.get_attribute("type"))
        for each in studio.all("#conditions [name]")
    }
    assert fields == {
        "condition:age": ("input", "range"),
        "condition:glasses": ("select", "select-one"),
        "condition:style": ("input", "text"),
        "condition:layout": ("input", "file"),
        "condition:sketch": ("input", "file"),
    }
    job_id = studio.made(1, label="star", seed="3")
    assert conditions_of(studio, job_id) == {"style": [[0.5, -1.0]]}, "what may be left out was left out"
    studio.show_form()
    studio.slide(studio.one("#conditions [type=range]"), 33)
    assert studio.one("#conditions .optional [type=checkbox]").is_selected(), "whoever moves it means it"
    assert "33 years" in studio.text("#conditions .optional output")
    studio.fill("condition:glasses", "round")
    job_id = studio.made(2, seed="3")
    assert conditions_of(studio, job_id) == {"style": [[0.5, -1.0]], "age": [33.0], "glasses": ["round"]}
    facts = studio.view(job_id).text
    assert "age\n33" in facts
    assert "glasses\nround" in facts
    studio.press("Use these settings", "dialog.viewer")
    wait_until(lambda: studio.form.is_displayed() and not studio.all("dialog.viewer"), 10, "the form is shown")
    again = studio.make()
    assert studio.done(again)["params"]["conditions"] == studio.job(job_id)["params"]["conditions"]


# The server's model with glasses has beards, too, and has never seen one with an eye patch.
NEVER = """
const original = window.fetch;
window.fetch = async (path, options) => {
  if (path !== "/models") return original(path, options);
  const list = await (await original(path, options)).json();
  const model = list.models.find(each => each.name === "with-glasses");
  model.conditions.beard = { type: "choice", null: true, values: ["none", "full"] };
  model.never = [{ glasses: ["eye patch"], beard: ["full"] }];
  return Response.json(list);
};
import("/static/models.js").then(it => it.loadModels()).then(arguments[0]);
"""


@pytest.mark.slow
def test_what_was_never_seen_together_is_not_offered_and_the_menu_says_why(studio: Studio) -> None:
    def offered(name: str) -> list[tuple[str, bool]]:
        values = "[...menu.options].slice(1).map(each => [each.text, !each.disabled])"
        script = f"const menu = document.querySelector(`[name='condition:${{arguments[0]}}']`); return {values}"
        return [(text, free) for text, free in studio.driver.execute_script(script, name)]

    studio.driver.execute_async_script(NEVER)
    studio.fill("model", "with-glasses")
    assert offered("beard") == [("none", True), ("full", True)]
    studio.fill("condition:glasses", "eye patch")
    assert offered("beard") == [("none", True), ("full (never seen with eye patch)", False)]
    studio.fill("condition:glasses", "none")
    studio.fill("condition:beard", "full")
    assert offered("glasses") == [("none", True), ("eye patch (never seen with full)", False)]
    for _ in range(8):
        studio.press("Surprise me", "#form")
        assert all(free for _, free in offered("glasses")) or offered("beard")[1] == ("full", True)
    url = "#make?kind=generate&model=with-glasses&condition=glasses:eye%20patch&condition=beard:full"
    studio.driver.execute_script("location.hash = arguments[0]", url)
    both = [("none", True), ("full (never seen with eye patch)", True)]
    wait_until(lambda: offered("beard") == both, 10, "an address may ask for both")
    assert studio.one("[name='condition:beard']").get_attribute("title") == "full (never seen with eye patch)"


@pytest.mark.slow
def test_guidance_acts_on_what_the_form_names(studio: Studio, layout: str) -> None:
    fill_in(studio, layout)
    studio.fill("condition:glasses", "round")
    studio.fill("guidance_scale", "2")
    assert "guide" not in studio.job(studio.made(1))["params"]
    studio.fill("guide", "glasses")
    job_id = studio.made(1)
    assert studio.job(job_id)["params"]["guide"] == ["glasses"]
    studio.press("Use these settings", f"#job-{job_id}")
    again = studio.done(studio.after(lambda: studio.click("#form button[type=submit]")))
    assert again["params"]["guide"] == ["glasses"]
    studio.fill("model", "with-glasses")
    assert not studio.one("#guides").is_displayed(), "one condition needs no choice"


@pytest.mark.slow
def test_a_choice_with_a_space_is_sent(studio: Studio) -> None:
    studio.fill("model", "with-glasses")
    studio.fill("condition:glasses", "eye patch")
    assert conditions_of(studio, studio.made(1)) == {"glasses": ["eye patch"]}


@pytest.mark.slow
def test_pictures_of_one_seed_are_named_by_their_conditions(studio: Studio) -> None:
    glasses = ["none", "eye patch", "none"]
    query = {
        "model": "with-glasses",
        "steps": "3",
        "seed": ["5", "5", "6"],
        "condition": [f"glasses:{each}" for each in glasses],
    }
    job_id = httpx.post(f"{studio.url}/generate", params=query, timeout=30).headers["X-Job-Id"]
    studio.shown(job_id, 3)
    assert studio.texts(f"#job-{job_id} figcaption") == ["Seed 5, none", "Seed 5, eye patch", "Seed 6"]


@pytest.mark.slow
def test_a_reload_and_a_recipe_keep_the_conditions(studio: Studio, layout: str) -> None:
    fill_in(studio, layout)
    studio.fill("condition:glasses", "none")
    kept = """
    const [done] = arguments;
    import("/static/saved.js").then(({ recall }) => recall(sessionStorage["difuso-tab"]))
      .then(draft => done(draft?.files.some(([name, file]) => name === "condition:layout" && file)));
    """
    wait_until(lambda: studio.driver.execute_async_script(kept), 10, "the browser has kept the layout")
    studio.load()
    value = "return document.querySelector(`[name='${arguments[0]}']`).value"
    assert studio.driver.execute_script(value, "condition:glasses") == "none"
    assert studio.driver.execute_script(value, "condition:style") == "0.5,-1"
    files = "return document.querySelector(\"[name='condition:layout']\").files.length"
    wait_until(lambda: studio.driver.execute_script(files) == 1, 10, "the layout is there, too")


@pytest.mark.slow
def test_a_surprise_is_sent_and_differs(studio: Studio, layout: str) -> None:
    fill_in(studio, layout)
    found = set()
    for _ in range(6):
        studio.press("Surprise me", "#form")
        found.add(studio.driver.execute_script("return document.querySelector('#conditions [type=range]').value"))
    assert len(found) > 1
    job_id = studio.made(1)
    assert set(conditions_of(studio, job_id)) == {"style", "age", "glasses"}
    assert 0 <= conditions_of(studio, job_id)["age"][0] <= 100


# The server fills in conditions that are left out, as for a model with examples.
FILLING = """
const original = window.fetch;
window.fetch = async (path, options) => {
  if (!/^\\/generate.*dry_run=true/.test(path)) return original(path, options);
  const price = await (await original(path, options)).json();
  return Response.json({ ...price, params: { ...price.params, conditions: { glasses: ["eye patch"] } } });
};
import("/static/models.js").then(it => { it.models.get("with-glasses").examples = 3; arguments[0](); });
"""


@pytest.mark.slow
def test_a_surprise_is_one_example_of_a_model_that_has_some(studio: Studio) -> None:
    studio.fill("model", "with-glasses")
    studio.driver.execute_async_script(FILLING)
    chosen = "return document.querySelector('#conditions select').value"
    for _ in range(3):
        studio.fill("condition:glasses", "none")
        studio.press("Surprise me", "#form")
        wait_until(lambda: studio.driver.execute_script(chosen) == "eye patch", 5, "it is what the server fills in")


@pytest.mark.slow
def test_the_grid_sweeps_a_condition(studio: Studio, layout: str) -> None:
    fill_in(studio, layout)
    studio.fill("steps", "2")
    studio.click("nav a[href='#grid']")
    axis = studio.see(".axis:nth-of-type(2) select")
    options = [each.text for each in axis.find_elements(By.TAG_NAME, "option")]
    assert options[-2:] == ["Age", "Glasses"]
    studio.pick(axis, "condition:glasses")
    for box in studio.all(".axis:nth-of-type(1) .samplers input"):
        if box.is_selected() is not (box.get_attribute("value") == "ddim"):
            box.click()
    studio.press("Draw 2 pictures", "#grid")
    wait_until(lambda: len(studio.all("#grid td a.picture")) == 2, 30, "both are drawn")
    assert studio.texts("#grid thead th") == ["Glasses", "Sampler", "none", "round"]
    jobs = [
        str(each.get_attribute("href")).split("/jobs/")[1].split("/")[0] for each in studio.all("#grid td a.picture")
    ]
    assert jobs[0] == jobs[1], "both are pictures of one job"
    assert conditions_of(studio, jobs[0])["glasses"] == ["none", "round"]
    assert conditions_of(studio, jobs[0])["style"] == [[0.5, -1.0]], "all else stays as in the form"
    address = studio.driver.execute_script("return location.hash")
    studio.load(address)
    wait_until(lambda: len(studio.all("#grid td a.picture")) == 2, 10, "its address shows it again")
    axes = [each.get_property("value") for each in studio.all("#grid .axis select")]
    assert axes == ["sampler", "condition:glasses"], "and its form what it was drawn of"
    assert [each.get_property("value") for each in studio.all("#grid .samplers :checked")] == ["ddim", "none", "round"]
    assert studio.text("#grid .main") == "Draw 2 pictures"


# The server fills in an age, another one for each request.
DEALT = """
import("/static/models.js").then(it => { it.models.get("traits").examples = 3; arguments[0](); });
const original = window.fetch;
let age = 40;
window.fetch = async (path, options) => {
  if (!String(path).includes("dry_run=true")) return original(path, options);
  const price = await (await original(path, options)).json();
  price.params.conditions.age = [age++];
  return Response.json(price);
};
"""


@pytest.mark.slow
def test_the_cells_of_a_grid_have_the_same_values_where_they_name_none(studio: Studio, layout: str) -> None:
    fill_in(studio, layout)
    studio.driver.execute_async_script(DEALT)
    studio.click("nav a[href='#grid']")
    studio.pick(studio.see("#grid .axis:nth-of-type(2) select"), "condition:glasses")
    studio.pick(studio.one("#grid .axis:nth-of-type(1) select"), "seed")
    studio.click("#grid .main")
    wait_until(lambda: len(studio.all("#grid td img")) == 8, 30, "all cells are drawn")
    (dealt,) = {*studio.job(studio.newest())["params"]["conditions"]["age"]}
    assert dealt >= 40


@pytest.mark.slow
def test_the_code_of_a_picture_has_its_conditions(studio: Studio) -> None:
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


@pytest.mark.slow
def test_the_code_of_a_picture_names_the_files_of_its_conditions(studio: Studio, layout: str) -> None:
    fill_in(studio, layout)
    studio.view(studio.made(1))
    studio.click("dialog.viewer summary")
    code = studio.see("dialog.viewer .terminal pre")
    studio.press("Python", "dialog.viewer .terminal")
    assert 'conditions={"style": [0.5, -1], "layout": Path("layout.png")}' in code.text
    assert "fit" not in code.text, "which /generate does not know"
    assert not studio.all("dialog.viewer .terminal .tabs button:nth-child(3)"), "the command line takes no such file"


@pytest.mark.slow
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
