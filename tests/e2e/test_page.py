"""The page in a real browser, in a dozen cases: drawing, finding and deleting; and other sites are kept out."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.serving import Difuso
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

TEAL = [0, 128, 128, 255]
COLOUR = "return [...arguments[0].querySelector('canvas').getContext('2d').getImageData(8, 8, 1, 1).data]"


def captions(studio: Studio, job_id: str) -> list[str]:
    return [caption.text.lower() for caption in studio.all(f"#job-{job_id} figcaption")]


def test_pictures_are_generated_and_a_command_makes_them_again(studio: Studio) -> None:
    job_id = studio.made(3, steps="5", seed="100")
    assert "3 pictures" in studio.text(f"#job-{job_id}")
    assert "5 steps" in studio.text(f"#job-{job_id}")
    assert captions(studio, job_id) == ["seed 100", "seed 101", "seed 102"]
    studio.press("Code", f"#job-{job_id}")
    command = studio.see(f"#job-{job_id} code").text
    path, query = re.findall(r"'http://[^/]*/(\w+)\?([^']*)'", command)[0]
    again = httpx.post(f"{studio.url}/{path}?{query}", headers={"Accept": "application/json"}, timeout=30).json()
    first, second = (httpx.get(studio.url + each["links"]["images"][2]).content for each in (studio.job(job_id), again))
    assert first == second


def test_a_running_job_shows_unfinished_pictures_and_can_be_cancelled(studio: Studio) -> None:
    studio.fill("n", "16")
    studio.fill("steps", "1000")
    job_id = studio.make()
    wait_until(lambda: studio.all(f"#job-{job_id} .unfinished img"), 20, "an unfinished picture is shown")
    assert "Step" in studio.text(f"#job-{job_id} .state")
    studio.press("Cancel", f"#job-{job_id}")
    wait_until(lambda: studio.text(f"#job-{job_id} > .state") == "Cancelled", 10, "it is cancelled")
    assert studio.job(job_id)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("kind", "files", "more", "count", "title"),
    [
        (
            "interpolate",
            {"image_a": "red", "image_b": "blue"},
            {"lambda": "0, 1", "noise": "rescaled"},
            2,
            "2 pictures between two",
        ),
        pytest.param("denoise", {"image": "teal"}, {"n": "2"}, 2, "2 pictures redrawn", marks=pytest.mark.slow),
        pytest.param(
            *("restore", {"image": "teal", "mask": "white"}, {"task": "inpaint", "n": "1"}, 1, "Restored: fill in"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_pictures_are_made_from_pictures(
    studio: Studio,
    picture: Callable[[str], str],
    kind: str,
    files: dict[str, str],
    more: dict[str, str],
    count: int,
    title: str,
) -> None:
    studio.choose(kind)
    for name, value in {**more, **{part: picture(colour) for part, colour in files.items()}, "steps": "3"}.items():
        studio.fill(name, value)
    wait_until(lambda: len(studio.all(".drop img:not([hidden])")) == len(files), 5, "thumbnails are shown")
    job_id = studio.make()
    assert title in studio.shown(job_id, count)
    assert studio.job(job_id)["task"].get("noise") == more.get("noise")


@at_both_widths
def test_what_the_server_refuses_is_shown_beside_the_form(studio: Studio, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"GIF89a")
    studio.choose("denoise")
    studio.fill("image", str(broken))
    before = studio.newest()
    studio.click("#form button[type=submit]")
    wait_until(lambda: "Picture:" in studio.alarm, 10, "the page names the field")
    seen = """
    const [error, field] = ["error", "form"].map(id => document.getElementById(id).getBoundingClientRect());
    return error.top >= 0 && error.bottom <= innerHeight && document.activeElement.name;
    """
    assert studio.driver.execute_script(seen) == "image", "the error is seen, and its field has the focus"
    assert studio.newest() == before
    shown = studio.errors()
    assert shown
    assert all("415" in each for each in shown)


COLD = """
const original = window.fetch;
window.fetch = async (path, options) => {
  const answer = await original(path, options);
  return /dry_run=true/.test(path) ? Response.json({ ...(await answer.json()), ...COLD }) : answer;
};
"""


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"load_seconds": 12.0}, "· the model is loaded first, in about 12\u00a0s"),
        ({"load_seconds": 90.0, "asleep": True}, "· its worker starts first, in about 2\u00a0min"),
        ({"asleep": True, "seconds": None, "eta_seconds": None}, "steps · its worker starts first"),
    ],
)
def test_the_price_tells_of_what_comes_before_the_job(studio: Studio, told: dict[str, object], words: str) -> None:
    studio.driver.execute_script(COLD.replace("...COLD", f"...{json.dumps(told)}"))
    studio.fill("n", "3")
    wait_until(lambda: studio.text("#price").endswith(words), 10, "the price tells it")


def test_a_reload_keeps_the_form_and_its_files(studio: Studio, picture: Callable[[str], str]) -> None:
    wait_until(lambda: studio.text("#price"), 10, "the first form has its price")
    first = studio.text("#price")
    studio.choose("denoise")
    for name, value in {"model": "with-classes", "label": "star", "n": "7", "image": picture("teal")}.items():
        studio.fill(name, value)
    wait_until(lambda: studio.text("#price") not in ("", first), 10, "the form has settled")
    studio.load()
    fields = "return ['model', 'label', 'n'].map(name => document.querySelector(`#form [name=${name}]`).value)"
    assert studio.driver.execute_script(fields) == ["with-classes", "star", "7"]
    assert studio.one("#kind").get_property("value") == "denoise"
    wait_until(lambda: studio.all(".drop img:not([hidden])"), 10, "the picture is there, too")


def cards(studio: Studio) -> list[str]:
    """The ids of the jobs that have a card of their own, from above."""
    script = "return [...document.querySelectorAll('#jobs > article[id]')].map(each => each.id.slice(4))"
    return list(studio.driver.execute_script(script))


def pick(studio: Studio, name: str, value: str) -> None:
    studio.pick(studio.see(f"#filters [name={name}]"), value)


def test_jobs_stay_over_reloads_and_are_filtered(studio: Studio) -> None:
    """A job that another program made is there, too."""
    ours = studio.made(1)
    theirs = str(httpx.post(f"{studio.url}/generate?model=with-classes&steps=2", timeout=30).headers["X-Job-Id"])
    wait_until(lambda: theirs in cards(studio), 15, "the other job appears by itself")
    studio.load()
    wait_until(lambda: {ours, theirs} <= set(cards(studio)), 10, "both are there after a reload")
    assert cards(studio).index(theirs) < cards(studio).index(ours)  # newest first
    pick(studio, "model", "with-classes")
    wait_until(lambda: theirs in cards(studio) and ours not in cards(studio), 10, "one model is shown")
    pick(studio, "kind", "restore")
    wait_until(lambda: theirs not in cards(studio), 10, "one kind is shown")
    pick(studio, "model", "")
    pick(studio, "kind", "")
    pick(studio, "state", "failed")
    wait_until(lambda: studio.text("#more"), 10, "the end is shown")
    assert ours not in cards(studio)


def test_deleting_says_how_many_can_be_undone_and_deletes_on_the_server(studio: Studio) -> None:
    """By a button of the card, and by the key of a focused picture; a reload does at once what is not undone."""
    job_id = studio.made(2)
    image = studio.job(job_id)["links"]["images"][0]
    studio.press("Delete all 2", f"#job-{job_id}")
    wait_until(lambda: job_id not in cards(studio), 10, "the card goes")
    assert "2 pictures deleted" in studio.text("#notices")
    studio.press("Undo", "#notices")
    wait_until(lambda: job_id in cards(studio), 5, "the card is back")
    assert httpx.get(studio.url + image).status_code == 200
    studio.shown(job_id, 2)
    studio.driver.execute_script(f"document.querySelector('#job-{job_id} a.picture').focus()")
    studio.keys("x")
    wait_until(lambda: job_id not in cards(studio), 10, "the card goes again")
    studio.load()
    wait_until(lambda: httpx.get(studio.url + image).status_code == 410, 10, "the server has deleted the images")
    wait_until(lambda: studio.all("#jobs > article, #more .empty"), 10, "the gallery is there")
    assert job_id not in cards(studio)


def test_settings_of_a_picture_fill_the_form_and_make_it_again(studio: Studio) -> None:
    fields = {"model": "with-classes", "sampler": "ddim", "label": "star", "guidance_scale": "2", "seed": "5"}
    job_id = studio.made(2, **fields)
    studio.open()
    studio.view(job_id, 1)
    studio.press("Use these settings", "dialog.viewer")
    sampler = studio.form.find_element(By.NAME, "sampler")
    wait_until(lambda: sampler.get_property("value") == "ddim", 5, "the form is filled in")
    again = studio.done(studio.make())
    assert again["params"] == {**studio.job(job_id)["params"], "n": 1, "seed": 6}
    first, second = (
        httpx.get(studio.url + link).content
        for link in (studio.job(job_id)["links"]["images"][1], again["links"]["images"][0])
    )
    assert first == second


@at_both_widths
def test_a_model_is_picked_by_what_it_draws_and_draws_at_once(studio: Studio) -> None:
    studio.show_form()
    studio.click("#pick")
    tile = studio.see("dialog.picker .tile[data-model='tiny']")
    assert "A network of random weights, with seed 0." in tile.text, "the first sentence of its card"

    def is_teal() -> bool:
        return bool(studio.driver.execute_script(COLOUR, tile) == pytest.approx(TEAL, abs=4))  # by a lossy picture

    wait_until(is_teal, 5, "its sheet is shown")
    studio.press("Choose", "dialog.picker .tile[data-model='with-classes']")
    assert studio.one("#model").get_property("value") == "with-classes"
    studio.click("#pick")
    chosen = studio.see("dialog.picker .tile[data-model='with-classes'] [aria-pressed=true]")
    assert chosen.text == "Choose"
    job = studio.done(studio.after(lambda: studio.press("Draw 4", "dialog.picker .tile[data-model='tiny']")))
    studio.shown(job["id"], 4)
    assert (job["params"]["steps"], job["task"]["upscale"]["model"]) == (50, "tiny-up"), "as well as can be drawn"
    assert not studio.all("dialog.picker")


FETCH = """
const [url, done] = arguments;
fetch(url, { method: "POST", mode: "no-cors" }).then((answer) => done(answer.type), (error) => done(String(error)));
"""
SEND_FORM = """
const form = document.createElement("form");
form.method = "post";
form.enctype = "multipart/form-data";
form.action = arguments[0];
document.body.append(form);
form.submit();
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of another server on this machine, with a page of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def counted(difuso: Difuso, pattern: str) -> float:
    """The sum of all metrics whose name and labels match."""
    lines = httpx.get(f"{difuso.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(pattern, line))


ACCEPTED = "difuso_jobs_accepted_total"
REFUSED = 'difuso_http_request_duration_seconds_count{method="POST",.*,status="403"}'


@pytest.mark.parametrize("name", [pytest.param("127.0.0.1", marks=pytest.mark.slow), "localhost"])
def test_a_page_from_elsewhere_cannot_queue_jobs(
    driver: webdriver.Chrome, studio_server: Difuso, elsewhere: int, name: str
) -> None:
    """To a browser another port is the same site, and another name another site; both may send a plain POST."""
    accepted, refused = counted(studio_server, ACCEPTED), counted(studio_server, REFUSED)
    driver.get(f"http://{name}:{elsewhere}")
    driver.execute_async_script(FETCH, f"{studio_server.url}/generate?steps=1")
    assert counted(studio_server, ACCEPTED) == accepted
    assert counted(studio_server, REFUSED) == refused + 1  # so the browser did send it
    driver.execute_script(SEND_FORM, f"{studio_server.url}/generate?steps=1")
    wait_until(lambda: "/problems/cross-origin" in driver.page_source, 10, "the browser shows the refusal")
    assert counted(studio_server, ACCEPTED) == accepted
    driver.get_log("browser")  # type: ignore[no-untyped-call]  # it holds each refusal
