"""The gallery and the queue of the page, in a real browser: what stays, what is found again, and what goes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def cards(studio: Studio) -> list[str]:
    """The ids of the jobs that have a card of their own, from above."""
    script = "return [...document.querySelectorAll('#jobs > article[id]')].map(each => each.id.slice(4))"
    return list(studio.driver.execute_script(script))


def pick(studio: Studio, name: str, value: str) -> None:
    studio.pick(studio.see(f"#filters [name={name}]"), value)


def test_scrolling_loads_older_jobs(studio: Studio) -> None:
    for _ in range(40 - len(httpx.get(f"{studio.url}/jobs?limit=40").json()["jobs"])):
        httpx.post(f"{studio.url}/generate?steps=1&model=with-classes", headers={"Prefer": "respond-async"})
    found = httpx.get(f"{studio.url}/jobs?limit=40").json()["jobs"]
    # Jobs of a grid share a card, and those whose images were deleted have none.
    oldest = [each["id"] for each in found if "tag" not in each and "image" in each["links"]][-1]
    studio.load()
    wait_until(lambda: cards(studio), 10, "the newest are listed")

    def reached() -> bool:
        studio.driver.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
        return oldest in cards(studio)

    wait_until(reached, 20, "the oldest is listed")
    listed = cards(studio)  # read once: more may be added meanwhile
    assert len(set(listed)) == len(listed)


def test_favourites_stay_and_are_found(studio: Studio) -> None:
    job_id = studio.made(2)
    studio.made(1)
    studio.view(job_id, 1)
    studio.keys("f")
    assert studio.one("dialog button.favourite").get_attribute("aria-pressed") == "true"
    studio.keys(Keys.ESCAPE)
    wait_until(lambda: not studio.all("dialog.viewer"), 5, "the viewer closes")
    studio.load()
    studio.click("#favourites")
    studio.shown(job_id, 1)
    assert cards(studio) == [job_id]
    assert "seed" in studio.text(f"#job-{job_id} .favourite figcaption").lower()
    assert "\u2605 1 / 2" in studio.text(f"#job-{job_id} header"), "of its two pictures"
    assert "Delete the whole job (2)" in studio.text(f"#job-{job_id} .tools")


def test_somebody_who_returns_finds_all_as_it_was_left(studio: Studio) -> None:
    """The language, the form, the favourite, the pictures; and one of them is made again to the last bit."""
    studio.pick(studio.one("#language"), "es")
    job_id = studio.made(2, model="with-classes", label="star", seed="77")
    studio.view(job_id, 1)
    studio.click("dialog.viewer button.favourite")
    studio.keys(Keys.ESCAPE)
    studio.fill("seed", "78")
    studio.load()
    assert studio.driver.execute_script("return document.documentElement.lang") == "es"
    assert studio.one("#model").get_property("value") == "with-classes"
    assert studio.one("#seeds input").get_property("value") == "78"
    studio.shown(job_id, 2)
    assert studio.all(f"#job-{job_id} figure.favourite[data-index='1']")
    studio.load(f"#picture={job_id}/1")
    studio.press("Usar estos ajustes", "dialog.viewer")
    again = studio.done(studio.make())
    first, second = (studio.pixels(job["links"]["images"][at]) for job, at in ((studio.job(job_id), 1), (again, 0)))
    assert first == second


def test_one_picture_and_all_are_saved(studio: Studio, tmp_path: Path) -> None:
    studio.downloads(tmp_path)
    job_id = studio.made(2, seed="70")
    links = studio.job(job_id)["links"]["images"]
    studio.press("Save all (zip)", f"#job-{job_id}")
    with zipfile.ZipFile(io.BytesIO(studio.downloaded(tmp_path, "*.zip").read_bytes())) as archive:
        assert archive.read("1.png") == httpx.get(studio.url + links[1]).content
    studio.view(job_id, 1)
    studio.press("Save", "dialog.viewer")
    assert studio.downloaded(tmp_path, "*71.png").read_bytes() == httpx.get(studio.url + links[1]).content


def test_an_open_picture_has_an_address_and_back_closes_it(studio: Studio) -> None:
    job_id = studio.made(2, seed="60")
    where = "return location.hash"
    studio.view(job_id, 1)
    assert studio.driver.execute_script(where) == f"#picture={job_id}/1"
    studio.keys(Keys.ARROW_LEFT)
    wait_until(lambda: "60" in studio.text("dialog.viewer h2"), 5, "the other picture is shown")
    assert studio.driver.execute_script(where) == f"#picture={job_id}/0"
    studio.driver.back()
    wait_until(lambda: not studio.all("dialog.viewer"), 5, "the picture closes")
    assert studio.one("#gallery").is_displayed()
    studio.load(f"#picture={job_id}/1")
    assert "61" in studio.see("dialog.viewer h2").text
    studio.keys(Keys.ESCAPE)
    wait_until(lambda: not studio.all("dialog.viewer"), 5, "the picture closes")
    assert studio.driver.execute_script(where) == "#gallery"
    studio.load("#picture=0f8fad5b-d9cb-469f-a165-70867728950e/0")
    wait_until(lambda: "no longer there" in studio.text("#notices"), 10, "a picture that is gone is reported")
    assert all("404" in each for each in studio.errors())


def test_a_card_names_the_class_and_counts_the_steps_of_each_picture(studio: Studio) -> None:
    fields = {"model": "with-classes", "label": "star", "n": "8", "steps": "1000"}
    for name, value in fields.items():
        studio.fill(name, value)
    job_id = studio.make()
    assert "star · with-classes" in studio.text(f"#job-{job_id} header")
    wait_until(lambda: "Step" in studio.text(f"#job-{job_id} .state"), 20, "it runs")
    assert " of 1000" in studio.text(f"#job-{job_id} .state")
    wait_until(lambda: studio.all(f"#job-{job_id} .unfinished img"), 20, "an unfinished picture is shown")
    studio.press("Cancel", f"#job-{job_id}")
    wait_until(lambda: "Cancelled" in studio.text(f"#job-{job_id}"), 10, "it is cancelled")
    assert studio.all(f"#job-{job_id} .unfinished img"), "what there was of it stays"


@at_both_widths
def test_a_result_out_of_view_is_announced(studio: Studio) -> None:
    studio.made(1)
    pick(studio, "state", "failed")
    wait_until(lambda: not cards(studio), 10, "nothing of that kind")
    studio.make()
    wait_until(lambda: "filters hide it" in studio.text("#notices"), 10, "the filters are named")
    wait_until(lambda: "Done: 1 picture" in studio.text("#notices"), 20, "its end is reported")
    studio.press("Show all", "#notices")
    wait_until(lambda: len(cards(studio)) >= 2, 10, "it is shown")
    if studio.is_phone:
        studio.driver.execute_script("scrollTo(0, 0)")
        job_id = studio.make()
        place = "return arguments[0].getBoundingClientRect().top"
        wait_until(lambda: job_id in cards(studio), 10, "it has a card")
        card = studio.one(f"#job-{job_id}")
        wait_until(lambda: 0 <= studio.driver.execute_script(place, card) < 844, 5, "which the page scrolls to")


def test_the_queue_shows_places_and_urgency_and_cancels(studio: Studio) -> None:
    busy = {"Prefer": "respond-async"}
    first = httpx.post(f"{studio.url}/generate?n=8&steps=1000", headers=busy).json()["id"]
    try:
        studio.fill("n", "4")
        studio.fill("steps", "500")
        studio.unfold()
        studio.pick(studio.one("#urgency"), "7")
        job_id = studio.make()
        assert studio.job(job_id)["urgency"] == 7
        row = f"#queue li[data-job='{job_id}']"
        studio.click("[popovertarget=queue]")
        wait_until(lambda: "background" in studio.text(row), 15, "the row shows the urgency")
        wait_until(lambda: "about" in studio.text(row), 15, "and when it will be done")
        wait_until(lambda: studio.text(f"#queue li[data-job='{first}']"), 15, "the other job is listed, too")
        studio.press("Cancel", row)
        wait_until(lambda: not studio.all(row), 15, "the row goes")
        assert studio.job(job_id)["state"] == "cancelled"
    finally:
        httpx.delete(f"{studio.url}/jobs/{first}")
    wait_until(lambda: "Nothing waits" in studio.text("#queue"), 20, "an empty queue says so")
    assert studio.text("#queue-count") == ""


# Counts the streams that are open, from before the page's own scripts.
COUNT_STREAMS = """
window.streams = new Set();
const original = window.fetch;
window.fetch = (path, options) => {
  if (String(path).endsWith("/events")) {
    streams.add(path);
    options.signal.addEventListener("abort", () => streams.delete(path));
  }
  return original(path, options);
};
"""


def test_few_connections_follow_many_jobs(studio: Studio) -> None:
    """Two streams at most, although more jobs are visible; browsers open six connections for all tabs together."""
    ids = [
        httpx.post(f"{studio.url}/generate?n=2&steps=1000", headers={"Prefer": "respond-async"}).json()["id"]
        for _ in range(4)
    ]
    added = studio.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": COUNT_STREAMS})
    try:
        studio.load()
        wait_until(lambda: set(ids) <= set(cards(studio)), 15, "all are listed")
        studio.driver.execute_script("document.getElementById('jobs').scrollIntoView()")
        wait_until(lambda: len(studio.all("#jobs progress")) >= 3, 10, "the progress of more is shown")
        assert studio.driver.execute_script("return streams.size") == 2
        for each in ids:
            httpx.delete(f"{studio.url}/jobs/{each}")
        wait_until(lambda: not studio.all("#jobs progress"), 20, "the end of all is shown")
    finally:
        studio.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
        for each in ids:
            httpx.delete(f"{studio.url}/jobs/{each}")
