"""From picture to picture: more like this, and links to pictures."""

from collections import Counter
from functools import partial
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.by import By

from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SIZE = 16


def ring_of(studio: Studio, address: str) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = httpx.get(f"{studio.url}/jobs", params={"tag": f"like:{address}"}).json()["jobs"]
    return jobs


def is_shown(studio: Studio, address: str) -> bool:
    return bool(studio.all(f"#like .centre[href$='{address}']"))


@at_both_widths
def test_one_press_draws_eight_neighbours_and_any_of_them_is_the_next_centre(studio: Studio) -> None:
    job = studio.job(studio.made(2, model="with-classes", label="star", seed="70"))
    address = f"{job['id']}/1"
    studio.view(job["id"], 1)
    studio.press("More like this", "dialog.viewer")
    wait_until(lambda: len(studio.all("#like .ring a.picture")) == 9, 30, "eight neighbours are drawn")
    jobs = ring_of(studio, address)
    assert Counter(each["kind"] for each in jobs) == {"denoise": 3, "generate": 2}
    drawn = {each["params"]["seed"][0] == 71: each["params"] for each in jobs if each["kind"] == "generate"}
    assert drawn[True]["seed"] == [71, 71]
    assert sorted(drawn[True]["label"]) == [0, 1], "both other classes"
    assert (len({*drawn[False]["seed"]}), drawn[False]["label"]) == (2, job["params"]["label"]), "two other seeds"
    assert sorted(each["task"]["depth"] for each in jobs if each["kind"] == "denoise") == [699, 799, 899]
    assert studio.texts("nav [aria-current]") == ["Gallery"], "which is where this leads back to"
    words = Counter(studio.texts("#like figcaption"))
    assert words["Another seed"] == 2
    assert words["Redrawn a little"] == 1
    wide = "return document.documentElement.scrollWidth - innerWidth"
    assert studio.driver.execute_script(wide) <= 0
    widths = "return [...document.querySelectorAll('#like, .ring img')].map(each => each.getBoundingClientRect().width)"
    whole, middle, *around = studio.driver.execute_script(widths)
    columns = 2 if studio.is_phone else 4
    assert middle == 2 * around[0], "the picture in the middle is as large as four of the others"
    assert columns * (around[0] + SIZE + 16) >= whole, "they fill the page, as far as whole multiples do"
    next_one = studio.one("#like .ring figure:nth-child(2) a")
    following = str(next_one.get_attribute("href")).split("=")[1]
    studio.click(next_one)
    wait_until(lambda: is_shown(studio, following), 5, "it is the centre")
    wait_until(lambda: len(studio.all("#like .crumbs li")) == 2, 5, "the way is shown")
    wait_until(lambda: len(studio.all("#like .ring a.picture")) == 9, 30, "its neighbours are drawn")
    studio.driver.back()
    wait_until(lambda: is_shown(studio, address), 5, "Back shows the first again")
    studio.load(f"#like={following}")
    wait_until(lambda: len(studio.all("#like .ring a.picture")) == 9, 10, "a reload shows the same ring")
    assert (len(ring_of(studio, address)), len(ring_of(studio, following))) == (5, 5), "and nothing is drawn twice"
    studio.click("nav a[href='#gallery']")
    studio.see("#jobs > article")
    studio.driver.execute_script("document.querySelector('#jobs').scrollIntoView()")
    one = f"#jobs a[href='#like={address}']"
    wait_until(lambda: len(studio.all(one)) == 1, 5, "a ring is one card")


def test_a_neighbour_has_one_condition_changed_and_says_which(studio: Studio) -> None:
    job_id = studio.made(1, model="with-glasses", seed="75", **{"condition:glasses": "none"})
    studio.view(job_id)
    studio.press("More like this", "dialog.viewer")
    wait_until(lambda: len(studio.all("#like .ring a.picture")) == 9, 30, "eight neighbours are drawn")
    assert studio.texts("#like figcaption").count("Glasses: eye patch") == 1
    other = next(each for each in ring_of(studio, f"{job_id}/0") if each["params"].get("seed") == 75)
    assert other["params"]["conditions"] == {"glasses": ["eye patch"]}


def test_between_two_seeds_neighbours_lie_on_the_same_way(studio: Studio) -> None:
    seeds = {"seed": ["3", "9"], "lambda": ["0.25", "0.5"], "steps": "3", "model": "tiny"}
    job_id = httpx.post(f"{studio.url}/interpolate", params=seeds, headers={"Prefer": "wait=30"}).headers["X-Job-Id"]
    studio.load(f"#like={job_id}/1")
    wait_until(lambda: len(studio.all("#like .ring a.picture")) == 9, 30, "eight neighbours are drawn")
    between = next(each for each in ring_of(studio, f"{job_id}/1") if each["kind"] == "interpolate")
    assert (between["task"]["seeds"], len(between["task"]["shares"])) == ([3, 9], 5)


def test_a_link_opens_its_picture_and_fills_the_form_once_it_is_gone(studio: Studio) -> None:
    job_id = studio.made(2, model="with-classes", label="star", seed="80")
    studio.view(job_id, 1)
    studio.press("Copy link", "dialog.viewer")
    link = studio.driver.execute_script("return document.querySelector('dialog.viewer .link').textContent")
    assert link.startswith(f"{studio.url}/#picture={job_id}/1?kind=generate&")
    studio.load(link.removeprefix(f"{studio.url}/"))
    shown = str(studio.see("dialog.viewer img.large").get_attribute("src"))
    assert shown.endswith(f"/jobs/{job_id}/images/1")
    httpx.delete(f"{studio.url}/jobs/{job_id}/images")
    studio.load(link.removeprefix(f"{studio.url}/"))
    wait_until(lambda: "The form has its settings" in studio.text("#notices"), 10, "the page says so")
    fields = "return ['model', 'label'].map(name => document.querySelector(`#form [name=${name}]`).value)"
    assert studio.driver.execute_script(fields) == ["with-classes", "star"]
    assert studio.one("#seeds input").get_property("value") == "81"
    studio.load("#make?kind=restore&task=superres&factor=4&model=tiny")
    assert studio.one("#kind").get_property("value") == "restore"
    assert studio.form.find_element(By.NAME, "factor").get_property("value") == "4"
    assert studio.driver.execute_script("return location.hash") == "#gallery"


UNKNOWN = "0f8fad5b-d9cb-469f-a165-70867728950e"


def follow(studio: Studio, link: str) -> None:
    """Follows a link on the page, from the gallery."""
    studio.driver.execute_script("document.getElementById('notices').replaceChildren(); location.hash = '#gallery'")
    studio.driver.execute_script("location.hash = arguments[0]", link)


def says(studio: Studio, words: str) -> bool:
    return words in studio.text("#notices")


def test_links_to_what_is_gone_say_so_and_back_does_not_return_to_them(studio: Studio) -> None:
    gone = (f"like={UNKNOWN}/0", f"compare={UNKNOWN}/0,{UNKNOWN}/1", "walk=walk:0", "grid=grid:steps:0")
    for link in gone:
        follow(studio, f"#{link}")
        wait_until(partial(says, studio, "That picture is no longer there."), 5, f"{link} is gone")
        assert studio.driver.execute_script("return location.hash") == "#gallery"
        assert studio.one("#gallery").is_displayed()
        studio.driver.back()
        assert studio.driver.execute_script("return location.hash") == "#gallery"
    assert all("404" in each for each in studio.errors())
