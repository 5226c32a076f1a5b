"""The wall: pictures side by side with nothing over them until a pointer, the focus or a held finger is there."""

from __future__ import annotations

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SCREEN = {"width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": False}
# The server has 221 jobs of one to sixteen pictures, one of which failed.
MANY = """
const original = window.fetch;
const image = "/static/icon.svg";
const job = at => ({
  id: `${at}`.padStart(8, "0") + "-0000-4000-8000-000000000000", kind: "generate", model: "tiny", urgency: 3,
  state: at === 3 ? "failed" : "succeeded", accepted_at: new Date(Date.UTC(3000, 0, 1) - at * 1000).toISOString(),
  params: { n: 1 + at % 16, steps: 1, seed: at, sampler: "ddim", guidance_scale: 1 },
  steps: { done: 1, total: 1 }, timings: { total: 1 },
  ...(at === 3 && { failure: { code: "internal", detail: "No." } }),
  links: { self: `/jobs/${at}`, ...(at !== 3 && { image, images: Array(1 + at % 16).fill(image) }) },
});
window.fetch = async (path, ...rest) => {
  if (!path.startsWith("/jobs?")) return original(path, ...rest);
  const query = new URLSearchParams(path.split("?")[1]);
  if (!query.has("without_tag")) return Response.json({ jobs: [] });
  const [from, most] = [Number(query.get("cursor") ?? 0), Number(query.get("limit"))];
  const jobs = Array.from({ length: Math.min(most, 221 - from) }, (_, at) => job(from + at));
  return Response.json({ jobs, ...(from + most < 221 && { next: String(from + most) }) });
};
"""
CARDS = "return document.querySelectorAll('#jobs > article').length"
HEIGHT = "return document.getElementById('jobs').getBoundingClientRect().height"
WIDE = "return document.documentElement.scrollWidth - innerWidth"
ENDS = """
const list = document.getElementById("jobs").getBoundingClientRect();
const row = [...document.querySelectorAll("#jobs > article:nth-child(-n + 40) :is(a.picture, .folded > button)")]
  .map(each => each.getBoundingClientRect()).filter(each => each.top === list.top);
if (!row.length) return null;
return [row[0].left - list.left, list.right - Math.max(...row.map(each => each.right)), row.length, row[0].height];
"""
OVER = """
return [...arguments[0].querySelectorAll(".box, .scrub, figcaption")]
  .filter(each => getComputedStyle(each).opacity !== "0").map(each => each.className || each.tagName);
"""


def all_cards(studio: Studio) -> None:
    studio.driver.execute_script(MANY)
    studio.click("#wall")

    def reached() -> bool:
        studio.driver.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
        return bool(studio.driver.execute_script(CARDS) == 221)

    wait_until(reached, 30, "all cards are listed")


def test_221_cards_take_six_screens_at_most_and_rows_are_filled(studio: Studio) -> None:
    studio.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
    studio.see("#jobs, #more")
    all_cards(studio)
    assert studio.driver.execute_script(HEIGHT) <= 6 * 768
    studio.driver.execute_script("scrollTo(0, 0)")
    wait_until(lambda: studio.driver.execute_script(ENDS) is not None, 5, "the first row is filled")
    left, right, columns, height = studio.driver.execute_script(ENDS)
    assert abs(left) < 1
    assert abs(right) < 1, "the pictures reach from side to side"
    assert columns == 16 - 4, "all but the card of four whose job failed"
    assert height > 44, "each can be hit"
    assert studio.driver.execute_script(WIDE) <= 0
    assert "No." in studio.text("#jobs > article:nth-child(4)"), "a job without pictures says why"
    studio.driver.execute_script("document.querySelector('#jobs > article:nth-child(16) button').focus()")
    focused = "return document.activeElement.ariaLabel"
    assert studio.driver.execute_script(focused) == "Show all 16"
    studio.keys(Keys.ENTER)
    pictures = "#jobs > article:nth-child(16) a.picture"
    wait_until(lambda: len(studio.all(pictures)) == 16, 5, "a press shows all pictures of a job")
    studio.press("Wall")
    wait_until(lambda: studio.all("#jobs .tools button"), 5, "and the cards are back")
    assert studio.driver.execute_script("return localStorage['difuso-wall']") == "false"


def test_nothing_lies_over_a_picture_of_the_wall_until_it_is_pointed_at(studio: Studio) -> None:
    job_id = studio.made(4, seed="40")
    studio.press("Wall")
    studio.shown(job_id, 4)
    card = studio.one(f"#job-{job_id}")
    ActionChains(studio.driver).move_to_element(studio.one("#filters [type=search]")).perform()
    assert studio.driver.execute_script(OVER, card) == []
    assert "Seed 41" in str(card.get_property("textContent")), "readers of the screen have the words"
    assert card.find_element("css selector", "h3").get_property("textContent") == "4 pictures"
    figure = studio.one(f"#job-{job_id} figure[data-index='1']")
    ActionChains(studio.driver).move_to_element(figure).perform()
    wait_until(lambda: len(studio.driver.execute_script(OVER, figure)) == 3, 5, "its film, its box and its words come")
    assert studio.driver.execute_script(OVER, card) == studio.driver.execute_script(OVER, figure), "and no others"
    ActionChains(studio.driver).move_to_element(studio.one("#filters [type=search]")).perform()
    studio.driver.execute_script("arguments[0].querySelector('a').focus()", figure)
    studio.keys(Keys.ARROW_RIGHT)
    assert studio.driver.execute_script("return document.activeElement.dataset.index") == "2"
    assert "FIGCAPTION" in studio.driver.execute_script(OVER, card), "the focus shows the words, too"
    studio.keys("s")
    assert "1 selected" in studio.text("#selection")
    studio.press("Clear", "#selection")
    studio.driver.execute_script("arguments[0].querySelector('.tools button').focus()", card)
    assert studio.see(f"#job-{job_id} .tools button").text == "Use these settings", (
        "what a card can do is reached by Tab"
    )
    studio.load()
    studio.shown(job_id, 4)
    assert studio.all("#jobs.wall"), "it stays the wall"


@pytest.mark.parametrize("studio", ["phone"], indirect=True)
def test_a_picture_that_is_held_shows_its_film_and_its_box(studio: Studio) -> None:
    job_id = studio.made(2, seed="44")
    first, second = studio.all(f"#job-{job_id} figure")
    assert "scrub" not in studio.driver.execute_script(OVER, first), "nothing covers the picture"
    studio.hold(first)
    wait_until(lambda: {"box", "scrub"} <= {*studio.driver.execute_script(OVER, first)}, 5, "a held finger shows both")
    assert not studio.all("dialog.viewer"), "and opens nothing"
    assert not {"box", "scrub"} & {*studio.driver.execute_script(OVER, second)}
    first.find_element("css selector", ".box").click()
    assert "1 selected" in studio.text("#selection")
    second.find_element("css selector", "a").click()
    wait_until(lambda: "2 selected" in studio.text("#selection"), 5, "now a tap selects the next")
    assert not studio.all("dialog.viewer")
    studio.press("Clear", "#selection")
    assert not {"box", "scrub"} & {*studio.driver.execute_script(OVER, first)}
    second.find_element("css selector", "a").click()
    studio.see("dialog.viewer")
