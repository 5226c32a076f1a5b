"""The page in a real browser: making pictures, and what other sites cannot do with it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.serving import Difuso
from tests.small_models import CLASSES
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

SIZE = 16


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], str]:
    def draw(colour: str) -> str:
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (SIZE, SIZE), colour).save(path)
        return str(path)

    return draw


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


@pytest.mark.slow
def test_several_seeds_are_one_picture_each(studio: Studio) -> None:
    """However many pictures the form had before."""
    studio.fill("steps", "5")
    studio.fill("seed", "3, 9")
    job_id = studio.make()
    studio.shown(job_id, 2)
    assert captions(studio, job_id) == ["seed 3", "seed 9"]


@pytest.mark.slow
def test_all_classes_take_turns(studio: Studio) -> None:
    job_id = studio.made(4, model="with-classes", seed="7", label="all")
    expected = [*CLASSES, CLASSES[0]]
    assert captions(studio, job_id) == [f"seed {7 + index}, {name}" for index, name in enumerate(expected)]


def test_rows_of_classes_have_the_same_seeds(studio: Studio) -> None:
    studio.fill("model", "with-classes")
    studio.fill("n", "2")
    studio.fill("steps", "3")
    studio.fill("seed", "40")
    label = studio.one("#form [name=label]")
    next(each for each in label.find_elements(By.TAG_NAME, "option") if each.text == "a row of each").click()
    job_id = studio.make()
    studio.shown(job_id, 6)
    params = studio.job(job_id)["params"]
    assert (params["label"], params["seed"]) == ([0, 0, 1, 1, 2, 2], [40, 41, 40, 41, 40, 41])
    rows = studio.all(f"#job-{job_id} .class-row")
    assert [row.find_element(By.TAG_NAME, "h4").text for row in rows] == list(CLASSES)
    assert [len(row.find_elements(By.TAG_NAME, "img")) for row in rows] == [2, 2, 2]
    studio.press("Use these settings", f"#job-{job_id}")
    again = studio.job(studio.make())
    assert again["params"] == params


@pytest.mark.slow
def test_a_plan_of_the_model_can_be_chosen(studio: Studio) -> None:
    studio.fill("plan", "few")
    studio.fill("n", "1")
    job_id = studio.make()
    assert "ddim, 3 steps" in studio.shown(job_id, 1)


def test_what_the_model_does_not_have_is_not_shown(studio: Studio) -> None:
    """tiny has no classes and no classifier."""
    studio.unfold()
    for name in ("label", "guidance_scale", "classifier_scale"):
        assert not studio.form.find_element(By.NAME, name).is_displayed()


@pytest.mark.slow
def test_a_weaker_network_guides_without_classes(studio: Studio) -> None:
    studio.fill("model", "with-guide")
    studio.unfold()
    scale = studio.form.find_element(By.NAME, "guidance_scale")
    assert scale.is_displayed()
    assert scale.get_attribute("placeholder") == "default"
    assert not studio.form.find_element(By.NAME, "label").is_displayed()
    assert "guidance 2.5" in studio.shown(studio.made(model="with-guide"), 1)
    assert "guidance 4" in studio.shown(studio.made(model="with-guide", guidance_scale="4"), 1)


def test_guidance_acts_on_an_interval_of_noise_levels(studio: Studio) -> None:
    studio.unfold()
    studio.fill("model", "tiny")  # which nothing can guide
    assert not studio.form.find_element(By.NAME, "guidance_low").is_displayed()
    studio.fill("model", "with-guide")
    low = studio.form.find_element(By.NAME, "guidance_low")
    assert low.is_displayed()
    assert low.get_attribute("placeholder") == "no limit"
    job_id = studio.made(guidance_low="0.5", guidance_high="20")
    params = studio.job(job_id)["params"]
    assert (params["guidance_low"], params["guidance_high"]) == (0.5, 20)
    facts = studio.view(job_id).text
    assert "Guidance above noise \u03c3\n0.5" in facts
    assert "Guidance up to noise \u03c3\n20" in facts


def test_a_running_job_shows_unfinished_pictures_and_can_be_cancelled(studio: Studio) -> None:
    studio.fill("n", "16")
    studio.fill("steps", "1000")
    job_id = studio.make()
    wait_until(lambda: studio.all(f"#job-{job_id} .unfinished img"), 20, "an unfinished picture is shown")
    assert "Step" in studio.text(f"#job-{job_id} .state")
    studio.press("Cancel", f"#job-{job_id}")
    wait_until(lambda: studio.text(f"#job-{job_id} > .state") == "Cancelled", 10, "it is cancelled")
    assert studio.job(job_id)["state"] == "cancelled"


def test_keys_alone_make_a_picture(studio: Studio) -> None:
    studio.keys("n")
    assert studio.driver.switch_to.active_element.get_attribute("id") == "kind"
    studio.fill("steps", "3")
    job_id = studio.after(lambda: studio.one("#form [name=steps]").send_keys(Keys.CONTROL, Keys.ENTER))
    studio.shown(job_id, 4)


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
        ("denoise", {"image": "teal"}, {"n": "2"}, 2, "(estimated)"),
        ("restore", {"image": "teal"}, {"task": "colorize", "n": "1"}, 1, "Restored: add colour"),
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


def offered(studio: Studio) -> list[str]:
    options = studio.form.find_elements(By.CSS_SELECTOR, "[name=model] option")
    return [option.get_attribute("value") or "" for option in options if option.get_attribute("hidden") is None]


def test_a_picture_is_enlarged_by_a_model_that_can_do_that(studio: Studio, picture: Callable[[str], str]) -> None:
    """Only such a model is offered then, and for all else only the others."""
    assert "tiny-up" not in offered(studio)
    studio.choose("upscale")
    assert offered(studio) == ["tiny-up"]
    for name, value in {"image": picture("teal"), "n": "2", "steps": "3"}.items():
        studio.fill(name, value)
    job = studio.done(studio.make())
    studio.shown(job["id"], 2)
    assert job["model"] == "tiny-up"
    assert studio.pixels(job["links"]["images"][0]).size == (2 * SIZE, 2 * SIZE)
    studio.choose("denoise")
    assert "tiny-up" not in offered(studio)


@pytest.mark.slow
def test_generated_pictures_are_enlarged_in_the_same_job(studio: Studio) -> None:
    job_id = studio.made(1, upscale="tiny-up", upscale_steps="2", upscale_augmentation="0.25")
    assert "enlarged by tiny-up" in studio.text(f"#job-{job_id}")
    studio.press("Use these settings", f"#job-{job_id}")
    assert studio.form.find_element(By.NAME, "upscale").get_property("value") == "tiny-up"
    studio.press("Code", f"#job-{job_id}")
    assert "upscale=tiny-up&upscale_steps=2&upscale_augmentation=0.25" in studio.see(f"#job-{job_id} pre").text
    studio.fill("model", "with-classes")
    assert not studio.form.find_element(By.NAME, "upscale").is_displayed(), "no model enlarges pictures of this size"


@pytest.mark.slow
def test_settings_of_a_class_and_models_outlast_another_kind(studio: Studio) -> None:
    job_id = studio.made(1, model="with-classes", label="star")
    model, label = (studio.form.find_element(By.NAME, name) for name in ("model", "label"))
    for kind, expected in (("upscale", "tiny-up"), ("restore", "with-classes"), ("upscale", "tiny-up")):
        studio.choose(kind)
        assert model.get_property("value") == expected
    studio.press("Use these settings", f"#job-{job_id}")
    wait_until(lambda: studio.one("#kind").get_property("value") == "generate", 5, "the form is filled in")
    assert (model.get_property("value"), label.get_property("value")) == ("with-classes", "star")


@pytest.mark.slow
def test_wide_pictures_keep_their_shape(studio: Studio) -> None:
    assert studio.made(1, model="wide")
    assert "24\u00d716" in studio.text("#facts")
    fit = "return getComputedStyle(document.querySelector('#jobs a.picture img')).objectFit"
    assert studio.driver.execute_script(fit) == "contain"


# The server does not tell its models at first, and then has no worker for them yet.
WAKING = """
const original = window.fetch;
let asked = 0;
window.fetch = async (path, options) => {
  if (path !== "/models" || ++asked > 2) return original(path, options);
  if (asked === 1) throw new TypeError("no answer");
  const list = await (await original(path, options)).json();
  return Response.json({ ...list, models: list.models.map(each => ({ ...each, state: "unknown", rate: undefined })) });
};
"""


@pytest.mark.slow
def test_a_server_that_wakes_up_is_awaited(studio: Studio) -> None:
    studio.made(1)  # so that the speed is known
    added = studio.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WAKING})
    try:
        studio.load()
    finally:
        studio.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert studio.alarm == ""
    assert "no worker yet" in studio.text("#facts")
    wait_until(lambda: "steps/s" in studio.text("#facts"), 20, "the page knows of the worker")


@at_both_widths
def test_what_the_server_refuses_is_told_beside_the_form(studio: Studio, tmp_path: Path) -> None:
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


def test_a_lost_server_is_said_and_unsaid(studio: Studio) -> None:
    """Though nobody presses anything."""
    lost = "const original = window.fetch; window.fetch = async (...asked) => {"
    lost += "if (window.away) throw new TypeError('no answer'); return original(...asked) }; window.away = true"
    studio.driver.execute_script(lost)
    wait_until(lambda: studio.one("#lost").is_displayed(), 15, "the page says that the server is lost")
    studio.click("#form button[type=submit]")
    wait_until(lambda: "does not answer" in studio.alarm, 5, "so does the form")
    for strip in ("#lost", "#live.lost"):
        shown = studio.see(strip, 10).text
        assert re.search(r"next try in [0-5] s", shown, re.IGNORECASE), shown
    studio.driver.execute_script("window.away = false")
    studio.press("Try now", "#lost")
    wait_until(lambda: not studio.one("#lost").is_displayed(), 10, "the page takes it back")
    wait_until(lambda: "worker" in studio.text("#live"), 5, "the strip tells of the workers again")
    assert studio.alarm == ""


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


FOLLOW = """
const [path, done] = arguments;
const ends = [];
const source = new EventSource(path);
source.addEventListener("succeeded", event => ends.push(event.lastEventId));
source.onerror = () => source.readyState === EventSource.CLOSED && done(ends);
"""


def test_a_plain_event_source_is_told_the_end_once(driver: webdriver.Chrome, studio_server: Difuso) -> None:
    """It connects again after every end of a stream, unless the server says that nothing follows."""
    driver.get(studio_server.url)
    job = httpx.post(f"{studio_server.url}/generate?steps=3", headers={"Prefer": "respond-async"}).json()
    assert driver.execute_async_script(FOLLOW, job["links"]["events"]) == ["succeeded"]


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


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
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
    driver.get_log("browser")  # type: ignore[no-untyped-call]  # it tells of each refusal
