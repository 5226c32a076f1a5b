"""A picture that is changed in place: choices, sliders, undo, before and after, and the link of what came of it."""

import logging
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.studio import Studio
from tests.waiting import wait_until

log = logging.getLogger(__name__)

pytestmark = pytest.mark.slow


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "layout.png"
    Image.fromarray((np.arange(64).reshape(8, 8) % 2).astype(np.uint8)).save(path)
    return path


def opened(studio: Studio, layout: Path) -> str:
    """Opens a picture of `traits` in the page; returns its job."""
    studio.fill("model", "traits")
    studio.fill("condition:style", "0.5, -1")
    studio.fill("condition:layout", str(layout))
    job_id = studio.made(2, label="star", seed="3")
    studio.view(job_id, 1)
    studio.see("dialog.viewer .chip")
    return job_id


def chips(studio: Studio) -> dict[str, str]:
    return dict(each.split("\n") for each in studio.texts("dialog.viewer .chip"))


def chip(studio: Studio, words: str) -> WebElement:
    return studio.all("dialog.viewer .chip")[list(chips(studio)).index(words)]


def choose(studio: Studio, words: str, value: str) -> str:
    """Chooses a value of a chip by its picture; returns the job that this makes."""
    studio.click(chip(studio, words))
    tiles = "dialog.viewer .value"
    wait_until(lambda: len(studio.all(f"{tiles} img")) == len(studio.all(tiles)), 15, "each value is drawn")
    before = shown(studio)
    tile = next(each for each in studio.all(tiles) if each.text == value)
    studio.click(tile)
    wait_until(lambda: shown(studio) not in (before, "") and chips(studio)[words] == value, 15, f"{value} is drawn")
    return shown(studio)


def shown(studio: Studio) -> str:
    """Returns the job of the open picture, as its address says it."""
    address: str = studio.driver.execute_script("return location.hash")
    return address.removeprefix("#picture=").split("/")[0]


def edits(studio: Studio, address: str) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = httpx.get(f"{studio.url}/jobs?tag=edit:{address}").json()["jobs"]
    return jobs


def sketches(studio: Studio) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = httpx.get(f"{studio.url}/jobs?tag=page:unlisted&limit=100").json()["jobs"]
    return jobs


def test_a_visitor_changes_two_things_goes_back_and_sends_the_link(studio: Studio, layout: Path) -> None:
    job_id = opened(studio, layout)
    assert chips(studio) == {"Class": "star", "Age": "any", "Glasses": "any", "Style": "0.5, -1", "Guidance": "1.0"}
    assert studio.text("dialog.viewer .history") == "Change this picture", "in place of what undoes"
    others = {each["id"] for each in sketches(studio)}
    with_glasses = choose(studio, "Glasses", "round")
    tiles = [each for each in sketches(studio) if each["id"] not in others]
    assert sorted(each["params"]["n"] for each in tiles) == [1, 2], "both values at once, and what is left out"
    assert all(set(np.ravel(each["params"]["seed"])) == {4} for each in tiles), "the same seed"
    square = choose(studio, "Class", "square")
    assert [each["id"] for each in edits(studio, f"{job_id}/1")] == [square, with_glasses]
    before = studio.job(job_id)["params"]
    changed = {"n": 1, "seed": 4, "label": 1, "conditions": before["conditions"] | {"glasses": ["round"]}}
    assert studio.job(square)["params"] == before | changed, "all else stays"

    old, new = "dialog.viewer .old img", "dialog.viewer .new .large"
    source = "return document.querySelector(arguments[0]).src"
    assert studio.driver.execute_script(source, old).endswith(f"/jobs/{with_glasses}/images/0")
    actions = ActionChains(studio.driver)
    actions.key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    assert (shown(studio), chips(studio)["Class"]) == (with_glasses, "star")
    assert studio.driver.execute_script(source, new).endswith(f"/jobs/{with_glasses}/images/0")
    assert studio.driver.execute_script(source, old).endswith(f"/jobs/{job_id}/images/1")
    studio.press("Redo", "dialog.viewer")
    assert shown(studio) == square

    visible = "return getComputedStyle(document.querySelector('dialog.viewer .veil')).visibility"
    hold = studio.button("Hold to compare", "dialog.viewer")
    actions.click_and_hold(hold).perform()
    assert studio.driver.execute_script(visible) == "visible"
    actions.release().perform()
    assert studio.driver.execute_script(visible) == "hidden"
    actions.key_down("b").perform()
    assert studio.driver.execute_script(visible) == "visible"
    actions.key_up("b").perform()
    assert studio.driver.execute_script(visible) == "hidden"

    studio.press("Copy link", "dialog.viewer")
    link = studio.driver.execute_script("return document.querySelector('dialog.viewer .link').textContent")
    assert link == studio.driver.current_url, "the address is the link"
    studio.load(link.removeprefix(f"{studio.url}/"))
    picture = studio.see("dialog.viewer .new .large").get_attribute("src")
    assert picture == f"{studio.url}/jobs/{square}/images/0"
    wait_until(lambda: studio.all("dialog.viewer .old:not([hidden])"), 5, "the picture before is known, too")
    query = [pair for pair in parse_qsl(urlsplit(link).fragment.split("?")[1]) if pair[0] != "kind"]
    again = httpx.post(f"{studio.url}/generate", params=query, files={"layout": layout.read_bytes()}, timeout=30)
    assert again.content == httpx.get(str(picture)).content, "and it makes the same bytes"

    studio.keys(Keys.ESCAPE)
    studio.click("nav a[href='#gallery']")
    cards = studio.texts("#jobs > article h3")
    assert cards.count("Changed in place") == 1, "both changes share a card"
    assert not [each for each in tiles if studio.all(f"#job-{each['id']}")], "sketches are in no list"


BUSY = """
const plain = window.fetch;
const problem = {type: "/problems/overloaded", title: "Busy", detail: "Too many jobs wait.", status: 429};
const headers = {"Content-Type": "application/problem+json", "Retry-After": "7"};
window.fetch = (path, options) => options.method === "POST"
  ? Promise.resolve(new Response(JSON.stringify(problem), {status: 429, headers})) : plain(path, options);
"""


def test_a_change_that_is_undone_is_cancelled_and_of_one_that_fails_the_picture_stays(studio: Studio) -> None:
    job_id = studio.made(1, model="with-classes", label="star", seed="3", steps="1000")
    studio.view(job_id)
    studio.see("dialog.viewer .chip")
    studio.click(chip(studio, "Class"))
    studio.click(next(each for each in studio.all("dialog.viewer .value") if each.text == "square"))
    wait_until(lambda: edits(studio, f"{job_id}/0"), 10, "it is being drawn")
    studio.press("Undo", "dialog.viewer")
    wait_until(lambda: edits(studio, f"{job_id}/0")[0]["state"] == "cancelled", 10, "its job is cancelled")
    assert (shown(studio), chips(studio)["Class"]) == (job_id, "star")
    assert not studio.one("dialog.viewer .old").is_displayed()

    studio.driver.execute_script(BUSY)
    studio.click(next(each for each in studio.all("dialog.viewer .value") if each.text == "circle"))
    alarm = studio.see("dialog.viewer .editing .error")
    assert alarm.text == "Busy. Too many jobs wait. (Try again in 7 s.)"
    assert (shown(studio), chips(studio)["Class"]) == (job_id, "star")
    source = studio.driver.execute_script("return document.querySelector('dialog.viewer .new .large').src")
    assert source == f"{studio.url}/jobs/{job_id}/images/0"


# Moves the open slider once a frame. Resolves to the requests that draw (the form asks for its price, too), the most of
# them at once, and the milliseconds from the move to each value that was drawn to its picture.
SLIDE = """
const done = arguments[0];
const [slider, picture] = ["input[type=range]", ".new .large"].map(each => document.querySelector(`.editing ${each}`));
const [moved, times, asked, plain] = [new Map(), [], [], window.fetch];
let flying = 0, most = 0;
window.fetch = (path, options) => {
  if (options.method !== "POST" || path.includes("dry_run=true")) return plain(path, options);
  most = Math.max(most, ++flying);
  asked.push(decodeURIComponent(path));
  return plain(path, options).finally(() => flying--);
};
new MutationObserver(() => {
  const found = picture.src.startsWith("blob:") && picture.alt.match(/: ([0-9.]+)/);
  if (found) times.push(performance.now() - moved.get(Number(found[1])));
}).observe(picture, { attributeFilter: ["src"] });
(async () => {
  for (let each = 1; each <= 60; each++) {
    slider.value = Number(slider.min) + each * Number(slider.step);
    moved.set(slider.valueAsNumber, performance.now());
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise(requestAnimationFrame);
  }
  const state = document.querySelector(".editing > [role=status]");
  while (!state.textContent.startsWith("Now")) await new Promise(requestAnimationFrame);
  window.fetch = plain;
  done({ times, most, asked });
})();
"""


def slide(studio: Studio, words: str) -> dict[str, Any]:
    studio.click(chip(studio, words))
    studio.see("dialog.viewer .sliders input")
    studio.driver.set_script_timeout(30)
    found: dict[str, Any] = studio.driver.execute_async_script(SLIDE)
    return found


def test_a_slider_redraws_while_it_moves_and_keeps_where_it_rests(studio: Studio, layout: Path) -> None:
    job_id = opened(studio, layout)
    found = slide(studio, "Age")
    assert found["most"] == 1, "one request at a time"
    assert len(found["asked"]) < 60, "some values are passed over"
    assert "age:60" in found["asked"][-1], "the last one is drawn"
    (kept,) = [each for each in edits(studio, f"{job_id}/1") if each["state"] == "succeeded"]
    assert kept["params"]["conditions"]["age"] == [60.0]
    assert chips(studio)["Age"] == "60 years"


# Chooses sixty values, one as soon as the one before is drawn; every tenth is a slip of two at once. Resolves to pairs
# of the value that was chosen last and the picture that is shown for it, and the milliseconds in all.
CLICK = """
const [done, frame] = [arguments[0], () => new Promise(requestAnimationFrame)];
const [picture, state] = [".new .large", "[role=status]"].map(each => document.querySelector(`.editing ${each}`));
const tiles = () => [...document.querySelectorAll(".editing .value")].filter(each => !each.querySelector(":checked"));
(async () => {
  const [began, seen] = [performance.now(), []];
  for (let each = 0; each < 60; each++) {
    if (each % 10 === 9) tiles()[0].click();
    const tile = tiles()[each % 2];
    tile.click();
    const value = tile.textContent;
    while (!state.textContent.startsWith("Now") || !state.textContent.includes(`: ${value}.`)) await frame();
    seen.push([value, picture.src]);
  }
  done([seen, performance.now() - began]);
})();
"""


def click(studio: Studio) -> float:
    """Clicks sixty times; returns the seconds. Each picture belongs to the last choice."""
    studio.view(studio.made(1, model="with-classes", label="star"))
    studio.click(studio.see("dialog.viewer .chip"))
    wait_until(lambda: len(studio.all("dialog.viewer .value img")) == 4, 15, "each value is drawn")
    studio.driver.set_script_timeout(150)
    seen, milliseconds = studio.driver.execute_async_script(CLICK)
    assert len({source for _, source in seen}) == 60, "each is a picture of its own"
    labels = {f"{studio.url}{job['links']['images'][0]}": job["params"].get("label") for job in listed(studio)}
    index = {"circle": 0, "square": 1, "star": 2, "any": None}
    assert [labels[source] for _, source in seen] == [index[value] for value, _ in seen]
    return float(milliseconds) / 1000


def listed(studio: Studio) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = httpx.get(f"{studio.url}/jobs?state=succeeded&limit=100").json()["jobs"]
    return jobs


@pytest.mark.timeout(180)
def test_of_sixty_choices_each_is_followed_by_its_own_picture(studio: Studio) -> None:
    click(studio)


@pytest.mark.long
def test_one_person_draws_sixty_pictures_a_minute(studio: Studio) -> None:
    seconds = click(studio)
    log.info(f"sixty pictures by clicks: {seconds:.0f} s")
    assert seconds < 60


@pytest.mark.long
def test_a_picture_follows_a_slider_within_150_ms(studio: Studio) -> None:
    studio.view(studio.made(1, model="with-classes", label="star"))
    studio.see("dialog.viewer .chip")
    times = sorted(slide(studio, "Guidance")["times"])
    log.info(
        f"from a move to its picture: median {times[len(times) // 2]:.0f} ms, worst {times[-1]:.0f} ms of {len(times)}"
    )
    assert times[len(times) // 2] < 150
