"""The page in a real browser: what people click, and what they see."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from model.checkpoint import save_checkpoint
from model.networks.configs import UNetConfig
from model.shape import Shape
from tests.serving import ENVIRONMENT, Difuso, running
from tests.small_models import CLASSES, NETWORK, checkpoint_of, checkpoint_of_shape
from tests.waiting import wait_until

SIZE = 16


@pytest.fixture(scope="module")
def difuso(cascade_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Difuso]:
    """With the models `tiny`, `tiny-up`, which enlarges its pictures, `wide` of 16x24 pixels, `with-classes` of three
    classes, and `x-four` of 4 channels."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(cascade_models_dir, folder / "models")
    made = checkpoint_of(UNetConfig(num_classes=len(CLASSES), **NETWORK), classes=CLASSES)
    save_checkpoint(folder / "models" / "with-classes", made.config, made.network)
    for name, shape in {"wide": Shape(3, 16, 24), "x-four": Shape(4, 16, 24)}.items():
        made = checkpoint_of_shape(shape)
        save_checkpoint(folder / "models" / name, made.config, made.network)
    with running(folder, ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(folder / "models")}) as difuso:
        yield difuso


class Page:
    """The page, and what can be done there."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver
        self.form = driver.find_element(By.ID, "form")

    def fill(self, name: str, value: str) -> None:
        """Types into the field that can be seen, or chooses an option."""
        field = next(each for each in self.form.find_elements(By.NAME, name) if each.is_displayed())
        if field.tag_name == "select":
            Select(field).select_by_value(value)
        elif field.get_attribute("type") == "file":
            field.send_keys(value)
        else:
            field.clear()
            field.send_keys(value)

    def choose(self, kind: str) -> None:
        Select(self.form.find_element(By.ID, "kind")).select_by_value(kind)

    def make(self) -> WebElement:
        """Sends the form; returns the job's card."""
        before = len(self.cards)
        self.form.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        wait_until(lambda: len(self.cards) > before, 10, f"a job appears; the page says {self.alarm!r}")
        return self.cards[0]

    @property
    def cards(self) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, "#jobs article")

    @property
    def alarm(self) -> str:
        return self._driver.find_element(By.ID, "error").text

    def sees(self, card: WebElement) -> list[WebElement]:
        """The finished pictures of a card that the browser could decode."""
        found = card.find_elements(By.CSS_SELECTOR, "figure:not(.unfinished) img")
        width = "return arguments[0].naturalWidth"
        return [image for image in found if self._driver.execute_script(width, image)]


def errors(driver: webdriver.Chrome) -> list[str]:
    """What the browser complained of since the last time."""
    log = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@pytest.fixture
def page(driver: webdriver.Chrome, difuso: Difuso) -> Iterator[Page]:
    driver.get(difuso.url)
    wait_until(lambda: driver.find_elements(By.CSS_SELECTOR, "[name=model] option"), 10, "the models are listed")
    yield Page(driver)
    assert errors(driver) == []


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], str]:
    def draw(colour: str) -> str:
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (SIZE, SIZE), colour).save(path)
        return str(path)

    return draw


def shown_models(page: Page) -> list[str]:
    options = Select(page.form.find_element(By.NAME, "model")).options
    return [option.text for option in options if option.get_attribute("hidden") is None]


def test_a_picture_is_enlarged_by_a_model_that_can_do_that(page: Page, picture: Callable[[str], str]) -> None:
    """Only such a model is offered then, and for all else only the others."""
    assert shown_models(page) == ["tiny", "wide", "with-classes", "x-four"]
    page.choose("upscale")
    assert shown_models(page) == ["tiny-up"]
    page.fill("image", picture("teal"))
    page.fill("n", "2")
    card = page.make()
    wait_until(lambda: len(page.sees(card)) == 2, 20, "two pictures are there")
    assert {image.get_property("naturalWidth") for image in page.sees(card)} == {2 * SIZE}
    assert "by tiny-up" in card.text
    page.choose("denoise")
    assert shown_models(page) == ["tiny", "wide", "with-classes", "x-four"]


def test_generated_pictures_are_enlarged_in_the_same_job(page: Page) -> None:
    page.fill("n", "1")
    page.fill("upscale", "tiny-up")
    page.fill("upscale_steps", "2")
    card = page.make()
    wait_until(lambda: len(page.sees(card)) == 1, 20, "the picture is there")
    assert page.sees(card)[0].get_property("naturalWidth") == 2 * SIZE
    assert "enlarged by tiny-up" in card.text
    page.fill("model", "with-classes")
    assert not page.form.find_element(By.NAME, "upscale").is_displayed(), "no model enlarges pictures of this size"


def test_pictures_have_the_aspect_of_their_model(page: Page) -> None:
    page.fill("model", "wide")
    page.fill("steps", "3")
    assert "24\N{MULTIPLICATION SIGN}16, " in page.form.text
    card = page.make()
    wait_until(lambda: len(page.sees(card)) == 1, 20, "the picture is shown")
    size = page.sees(card)[0].size
    assert size["width"] / size["height"] == pytest.approx(1.5, rel=0.05)


def test_channels_that_no_picture_shows_are_saved_as_arrays(page: Page) -> None:
    page.fill("model", "x-four")
    page.fill("steps", "3")
    card = page.make()
    link = card.find_element(By.CLASS_NAME, "sheet")
    wait_until(link.is_displayed, 20, "the job is done")
    assert link.text == "Save all as arrays (.npz)"
    answer = httpx.get(link.get_attribute("href") or "").raise_for_status()
    assert answer.headers["Content-Type"] == "application/x-npz"
    card.find_element(By.TAG_NAME, "summary").click()
    assert "-o pictures.npz" in card.find_element(By.TAG_NAME, "code").text


def test_pictures_are_generated_and_can_be_made_again(page: Page) -> None:
    page.fill("n", "3")
    page.fill("steps", "5")
    page.fill("seed", "100")
    card = page.make()
    wait_until(lambda: len(page.sees(card)) == 3, 20, "three pictures are shown")
    assert "3 pictures by tiny, 5 steps" in card.text
    assert [caption.text for caption in card.find_elements(By.TAG_NAME, "figcaption")] == [
        "seed 100",
        "seed 101",
        "seed 102",
    ]
    card.find_element(By.TAG_NAME, "summary").click()
    assert "seed=100" in card.find_element(By.TAG_NAME, "code").text


def captions(card: WebElement) -> list[str]:
    return [caption.text for caption in card.find_elements(By.TAG_NAME, "figcaption")]


def test_several_seeds_are_one_picture_each(page: Page) -> None:
    """However many pictures the form had before."""
    page.fill("steps", "5")
    page.fill("seed", "3, 9")
    card = page.make()
    wait_until(lambda: len(page.sees(card)) == 2, 20, "two pictures are shown")
    assert captions(card) == ["seed 3", "seed 9"]
    card.find_element(By.TAG_NAME, "summary").click()
    assert "seed=3&seed=9" in card.find_element(By.TAG_NAME, "code").text


def test_all_classes_take_turns(page: Page) -> None:
    for name, value in {"model": "with-classes", "n": "4", "steps": "5", "seed": "7", "label": "all"}.items():
        page.fill(name, value)
    card = page.make()
    wait_until(lambda: len(page.sees(card)) == 4, 20, "four pictures are shown")
    expected = [*CLASSES, CLASSES[0]]
    assert captions(card) == [f"seed {7 + index}, {name}" for index, name in enumerate(expected)]


def test_a_plan_of_the_model_can_be_chosen(page: Page) -> None:
    page.fill("plan", "few")
    card = page.make()
    wait_until(lambda: page.sees(card), 20, "a picture is shown")
    assert "pictures by tiny, 3 steps of ddim" in card.text


def test_what_the_model_does_not_have_is_not_shown(page: Page) -> None:
    """tiny has no classes and no classifier."""
    for name in ("label", "guidance_scale", "classifier_scale"):
        assert not page.form.find_element(By.NAME, name).is_displayed()


def test_a_running_job_shows_unfinished_pictures_and_can_be_cancelled(page: Page) -> None:
    page.fill("n", "16")
    page.fill("steps", "1000")
    card = page.make()
    wait_until(lambda: card.find_elements(By.CSS_SELECTOR, ".unfinished img"), 20, "an unfinished picture is shown")
    assert "Step" in card.find_element(By.CLASS_NAME, "state").text
    card.find_element(By.CLASS_NAME, "cancel").click()
    wait_until(lambda: card.find_element(By.CLASS_NAME, "state").text == "Cancelled", 10, "it is cancelled")


@pytest.mark.parametrize(
    ("kind", "files", "more", "count", "title"),
    [
        ("interpolate", {"image_a": "red", "image_b": "blue"}, {"lambda": "0, 0.5, 1"}, 3, "between two"),
        ("interpolate", {}, {"lambda": "0, 0.5, 1", "seed": "3, 9"}, 3, "between two seeds"),
        ("denoise", {"image": "teal"}, {"sigma": "25", "n": "2"}, 2, "noise of \u03c3 25.0"),
        ("restore", {"image": "teal", "mask": "white"}, {"task": "inpaint", "n": "1"}, 1, "restored (inpaint)"),
        ("restore", {"image": "teal"}, {"task": "colorize", "n": "1"}, 1, "restored (colorize)"),
    ],
)
def test_pictures_are_made_from_pictures(
    page: Page,
    picture: Callable[[str], str],
    kind: str,
    files: dict[str, str],
    more: dict[str, str],
    count: int,
    title: str,
) -> None:
    page.choose(kind)
    for name, value in {**more, "steps": "5", **{part: picture(colour) for part, colour in files.items()}}.items():
        page.fill(name, value)
    card = page.make()
    wait_until(lambda: len(page.sees(card)) == count, 20, "all pictures are shown")
    assert title in card.text


def test_what_the_server_refuses_is_told_beside_the_form(page: Page, driver: webdriver.Chrome, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"GIF89a")
    page.choose("denoise")
    page.fill("image", str(broken))
    page.form.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    wait_until(lambda: "image:" in page.alarm, 10, "the page names the part")
    assert not page.cards
    (error,) = errors(driver)
    assert "415" in error


FOLLOW = """
const [path, done] = arguments;
const ends = [];
const source = new EventSource(path);
source.addEventListener("succeeded", event => ends.push(event.lastEventId));
source.onerror = () => source.readyState === EventSource.CLOSED && done(ends);
"""


def test_a_plain_event_source_is_told_the_end_once(page: Page, driver: webdriver.Chrome, difuso: Difuso) -> None:
    """It connects again after every end of a stream, unless the server says that nothing follows."""
    job = httpx.post(f"{difuso.url}/generate?steps=3", headers={"Prefer": "respond-async"}).json()
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
    driver: webdriver.Chrome, difuso: Difuso, elsewhere: int, name: str
) -> None:
    """To a browser another port is the same site, and another name another site; both may send a plain POST."""
    accepted, refused = counted(difuso, ACCEPTED), counted(difuso, REFUSED)
    driver.get(f"http://{name}:{elsewhere}")
    driver.execute_async_script(FETCH, f"{difuso.url}/generate?steps=1")
    assert counted(difuso, ACCEPTED) == accepted
    assert counted(difuso, REFUSED) == refused + 1  # so the browser did send it
    driver.execute_script(SEND_FORM, f"{difuso.url}/generate?steps=1")
    wait_until(lambda: "/problems/cross-origin" in driver.page_source, 10, "the browser shows the refusal")
    assert counted(difuso, ACCEPTED) == accepted
    errors(driver)  # it tells of each refusal
