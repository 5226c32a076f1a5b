"""From picture to picture on the page, in a real browser: sending, dropping, painting, sliding, comparing."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from difuso.jobs.images.fitting import fit, read_file
from difuso.model.shape import Shape
from tests.serving import Difuso
from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SIZE = 16


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A smooth picture of the model's size, which the server takes bit for bit."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] * 10 + 40
    path = tmp_path / "picture.png"
    Image.fromarray(np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8)).save(path)
    return path


def file_of(studio: Studio, name: str) -> bytes:
    """The content of the file in the field that can be used."""
    script = """
    const [name, done] = arguments;
    const input = [...document.querySelectorAll(`#form [name=${name}]`)].find(each => !each.matches(":disabled"));
    input?.files[0] ? input.files[0].arrayBuffer().then(all => done([...new Uint8Array(all)])) : done([]);
    """
    return bytes(studio.driver.execute_async_script(script, name))


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def has_it(studio: Studio, name: str, content: bytes) -> None:
    wait_until(lambda: file_of(studio, name) == content, 10, f"the field {name} has the picture")


def chosen(studio: Studio, kind: str) -> bool:
    return studio.one("#kind").get_property("value") == kind


def test_a_picture_goes_on_to_every_kind(studio: Studio) -> None:
    job_id = studio.made(2, seed="12")
    sent = httpx.get(studio.url + studio.job(job_id)["links"]["images"][1]).content
    for words, kind, name in (
        ("Denoise or redraw", "denoise", "image"),
        ("Restore", "restore", "image"),
        ("Interpolate: First picture", "interpolate", "image_a"),
        ("Interpolate: Second picture", "interpolate", "image_b"),
    ):
        studio.view(job_id, 1)
        studio.press(words, "dialog.viewer")
        wait_until(partial(chosen, studio, kind), 10, f"{kind} is chosen")
        has_it(studio, name, sent)
    studio.fill("lambda", "0.5")
    wait_until(lambda: file_of(studio, "image_a") == sent, 5, "the first picture is still there")
    made = studio.done(studio.make())
    assert made["kind"] == "interpolate"
    assert len(made["pictures"]) == 2


def test_files_are_dropped_and_pasted_into_fields(studio: Studio, picture: Path) -> None:
    studio.choose("interpolate")
    zones = [each for each in studio.all(".drop") if each.is_displayed()]
    studio.drop(zones[1], picture)
    wait_until(lambda: file_of(studio, "image_b") == picture.read_bytes(), 5, "the second field has the file")
    assert zones[1].find_element(By.TAG_NAME, "img").is_displayed()
    where = {"origin": studio.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    studio.driver.execute_cdp_cmd("Browser.grantPermissions", where)
    copy = """
    const [bytes, done] = arguments;
    const blob = new Blob([new Uint8Array(bytes)], { type: "image/png" });
    const item = new ClipboardItem({ "image/png": blob });
    navigator.clipboard.write([item]).then(() => done(""), error => done(String(error)));
    """
    assert studio.driver.execute_async_script(copy, list(picture.read_bytes())) == ""
    ActionChains(studio.driver).key_down(Keys.CONTROL).send_keys("v").key_up(Keys.CONTROL).perform()
    wait_until(lambda: file_of(studio, "image_a"), 5, "the empty field has what was pasted")
    assert (pixels(file_of(studio, "image_a")) == pixels(picture.read_bytes())).all()


def test_a_dropped_picture_of_ours_shows_its_recipe_and_is_made_again(studio: Studio, tmp_path: Path) -> None:
    job_id = studio.made(2, model="with-classes", label="square", seed="31")
    ours = tmp_path / "ours.png"
    ours.write_bytes(httpx.get(studio.url + studio.job(job_id)["links"]["images"][1]).content)
    studio.open()
    studio.drop(studio.one("#stage"), ours)
    shown = studio.see("dialog.recipe").text
    for words in ("Made by difuso", "with-classes", "square", "32"):
        assert words in shown
    again = studio.done(studio.after(lambda: studio.press("Make it again", "dialog.recipe")))
    assert httpx.get(studio.url + again["links"]["images"][0]).content == ours.read_bytes()


def test_a_recipe_with_uploads_is_made_again_where_the_uploads_are_known(
    studio: Studio, picture: Path, tmp_path: Path
) -> None:
    studio.choose("denoise")
    for name, value in {"image": str(picture), "n": "1", "steps": "3", "seed": "8"}.items():
        studio.fill(name, value)
    job = studio.done(studio.make())
    studio.shown(job["id"], 1)
    ours = tmp_path / "ours.png"
    ours.write_bytes(httpx.get(studio.url + job["links"]["images"][0]).content)
    studio.load()
    studio.drop(studio.one("#stage"), ours)
    again = studio.done(studio.after(lambda: studio.press("Make it again", "dialog.recipe")))
    assert httpx.get(studio.url + again["links"]["images"][0]).content == ours.read_bytes()
    studio.open()  # as somebody else
    studio.drop(studio.one("#stage"), ours)
    assert "not on this device" in studio.see("dialog.recipe").text
    assert not studio.button("Make it again", "dialog.recipe").is_enabled()


def test_other_files_are_distinguished(studio: Studio, picture: Path, tmp_path: Path) -> None:
    studio.drop(studio.one("#stage"), picture)
    assert "no recipe" in studio.see("dialog.recipe").text
    studio.press("Restore", "dialog.recipe")
    wait_until(lambda: file_of(studio, "image") == picture.read_bytes(), 5, "it can be used all the same")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    studio.drop(studio.one("#stage"), text)
    wait_until(lambda: "PNG and JPEG" in studio.text("#notices"), 5, "the page says what it takes")


def test_a_photograph_of_a_phone_is_made_smaller_and_fitted_as_the_server_would(studio: Studio, tmp_path: Path) -> None:
    """4000x3000 pixels, lying on its side as a phone stores it."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    path, exif = tmp_path / "IMG_1.JPG", Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BILINEAR).save(path, exif=exif)
    studio.choose("denoise")
    for name, value in {"image": str(path), "n": "1", "steps": "3"}.items():
        studio.fill(name, value)
    studio.pick(studio.see("[data-switch=denoise]"), "clean")
    job = studio.done(studio.make())
    assert job["pictures"][0]["height"] > job["pictures"][0]["width"]
    sent = file_of(studio, "image")
    assert len(sent) < 4 * 2**20
    for how in ("cover", "contain"):
        wanted = ImageOps.exif_transpose(Image.open(path))
        fitted = [
            pixels(fit(each, shape=Shape(3, SIZE, SIZE), how=how).file).astype(int)
            for each in (wanted.convert("RGB"), read_file(sent))
        ]
        assert np.abs(fitted[0] - fitted[1]).max() <= 3


def stroke(studio: Studio, canvas: WebElement, *, pen: bool = False) -> None:
    """Draws a horizontal line through the middle: by finger on a phone, by mouse or pen elsewhere."""
    box = studio.driver.execute_script("return arguments[0].getBoundingClientRect().toJSON()", canvas)
    y, left, right = box["y"] + box["height"] / 2, box["x"] + box["width"] / 4, box["x"] + box["width"] * 3 / 4
    if studio.is_phone:
        for kind, points in (
            ("touchStart", [{"x": left, "y": y}]),
            ("touchMove", [{"x": (left + right) / 2, "y": y}]),
            ("touchMove", [{"x": right, "y": y}]),
            ("touchEnd", []),
        ):
            studio.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        return
    how = {"button": "left", "buttons": 1, "clickCount": 1, **({"pointerType": "pen", "force": 1.0} if pen else {})}
    for kind, x in (("mousePressed", left), ("mouseMoved", (left + right) / 2), ("mouseMoved", right)):
        studio.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **how})
    studio.driver.execute_cdp_cmd(
        "Input.dispatchMouseEvent", {"type": "mouseReleased", "x": right, "y": y, **how, "buttons": 0}
    )


def marked(studio: Studio) -> np.ndarray:
    """Which pixels the mask in the form marks."""
    mask = pixels(file_of(studio, "mask"))
    assert mask.shape == (SIZE, SIZE, 3)
    return mask[:, :, 0] >= 128


def test_somebody_with_a_photograph_is_drawn_as_what_was_found_and_changes_it(
    driver: webdriver.Chrome, difuso: Difuso, tmp_path: Path
) -> None:
    """A photograph is dropped, redrawn told nothing, compared, and redrawn with another value than was found for it."""
    studio = Studio(driver, difuso.url, "desktop")
    studio.open()
    photo = tmp_path / "me.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 40, 3), np.uint8)).resize((300, 400)).save(photo)
    studio.drop(studio.one("#stage"), photo)
    studio.press("Denoise or redraw", "dialog.recipe")
    studio.fill("model", "examples")
    studio.slide(studio.see("#form [name=strength]"), 0.9)
    job_id = studio.made(2, seed="3")
    job = studio.job(job_id)
    (found,) = job["params"]["conditions"]["glasses"]
    assert job["task"]["probes"] == 3
    assert f"Filled in: glasses: {found}, from the example nearest to your picture." in studio.text(f"#job-{job_id}")
    studio.view(job_id, 1)
    assert studio.see("dialog.viewer .chip").text == f"glasses\n{found}"
    studio.press("Before and after", "dialog.viewer")
    studio.see(".compare")
    studio.keys(Keys.ESCAPE)
    studio.press("Use these settings", f"#job-{job_id}")
    chosen = "[name='condition:glasses']"
    wait_until(lambda: studio.one(chosen).get_property("value") == found, 10, "the form has the value that was found")
    other = next(each for each in ("none", "round", "square") if each != found)
    studio.fill("condition:glasses", other)
    again = studio.done(studio.make())
    assert again["params"]["conditions"] == {"glasses": [other]}
    assert "probes" not in again["task"]
    assert again["pictures"] == job["pictures"]
    studio.fill("condition:glasses", found)
    same = studio.done(studio.make())
    assert studio.pixels(same["links"]["images"][1]) == studio.pixels(job["links"]["images"][1])


@at_both_widths
def test_a_mask_is_painted_and_only_the_painted_part_is_drawn_anew(studio: Studio, picture: Path) -> None:
    studio.choose("restore")
    assert not studio.button("Paint what is missing").is_enabled()
    studio.fill("image", str(picture))
    studio.press("Paint what is missing")
    canvas = studio.see("dialog.mask canvas")
    studio.slide(studio.one("dialog.mask .size input"), 3)
    stroke(studio, canvas)
    stroke(studio, canvas, pen=True)
    studio.press("Undo", "dialog.mask")
    studio.press("Use this mask", "dialog.mask")
    wait_until(lambda: file_of(studio, "mask"), 5, "the mask is in the form")
    mask = marked(studio)
    rows = np.flatnonzero(mask.any(axis=1))
    assert {SIZE // 2 - 1, SIZE // 2} & set(rows)
    assert 1 <= len(rows) <= 4
    assert 7 <= mask.any(axis=0).sum() <= 13
    for name, value in {"n": "1", "steps": "3"}.items():
        studio.fill(name, value)
    job = studio.done(studio.make())
    made, given = pixels(httpx.get(studio.url + job["links"]["images"][0]).content), pixels(picture.read_bytes())
    assert (made[~mask] == given[~mask]).all()
    assert (made[mask] != given[mask]).any()


def test_a_mask_is_erased_undone_and_painted_by_keys(studio: Studio, picture: Path) -> None:
    studio.choose("restore")
    studio.fill("image", str(picture))
    studio.press("Paint what is missing")
    canvas = studio.see("dialog.mask canvas")
    canvas.send_keys(" ")
    canvas.send_keys(Keys.ARROW_RIGHT * 4, " ")
    studio.press("Erase", "dialog.mask")
    canvas.send_keys(Keys.ARROW_LEFT * 4, " ")  # the first dot goes, the second stays
    studio.press("Use this mask", "dialog.mask")
    wait_until(lambda: file_of(studio, "mask"), 5, "the mask is in the form")
    mask = marked(studio)
    assert mask.any()
    assert not mask[SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].any()


def test_a_strip_is_drawn_once_and_then_slides_without_a_request(studio: Studio) -> None:
    studio.choose("interpolate")
    studio.pick(studio.see("[data-switch=interpolate]"), "seeds")
    for field, seed in zip(studio.all("[data-when=seeds] input"), ("3", "9"), strict=True):
        field.send_keys(seed)
    stops = studio.one("#stops")
    stops.clear()
    stops.send_keys("5")
    studio.fill("steps", "3")
    job = studio.done(studio.make())
    assert job["task"]["shares"] == [0, 0.25, 0.5, 0.75, 1]
    assert job["task"]["seeds"] == [3, 9]
    slider = f"#job-{job['id']} input[type=range]"
    studio.shown(job["id"], 5)
    studio.driver.execute_script("performance.clearResourceTimings()")
    seen = []
    for index in range(5):
        studio.slide(studio.one(slider), index)
        (image,) = [each for each in studio.all(f"#job-{job['id']} .pile img") if each.is_displayed()]
        seen.append(str(image.get_property("src")).split("/")[-1])
        assert f"λ {job['task']['shares'][index]:.2f}" in studio.text(f"#job-{job['id']} .scale")
    assert seen == ["0", "1", "2", "3", "4"]
    made = studio.driver.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    made = [name for name in made if "dry_run" not in name]  # the form's price, whenever it comes
    assert not [name for name in made if "images" in name or name.split("?")[0].endswith("interpolate")]


@at_both_widths
def test_before_and_after_are_divided(studio: Studio, picture: Path) -> None:
    studio.choose("restore")
    studio.pick(studio.see("[name=task]"), "superres")
    for name, value in {"image": str(picture), "n": "1", "steps": "3"}.items():
        studio.fill(name, value)
    job = studio.done(studio.make())
    studio.shown(job["id"], 1)
    httpx.post(f"{studio.url}/generate?steps=1&upscale=tiny-up", timeout=30)  # with two stages, and nothing before
    studio.load()  # what was sent is still known
    studio.view(studio.newest())
    assert "Before and after" not in studio.text("dialog.viewer .tabs")
    studio.keys(Keys.ESCAPE)
    wait_until(lambda: not studio.all("dialog.viewer"), 5, "the viewer closes")
    studio.view(job["id"])
    studio.press("Before and after", "dialog.viewer")
    studio.see(".compare")
    slider = studio.one(".compare input")  # it lies unseen over the picture
    width = studio.one(".compare").size["width"]
    studio.slide(slider, 100)
    inset = "return getComputedStyle(document.querySelector('.before')).clipPath"
    assert "0%" in studio.driver.execute_script(inset)
    ActionChains(studio.driver).move_to_element_with_offset(slider, -width // 4, 0).click().perform()
    assert 15 <= int(str(slider.get_property("value"))) <= 35


def test_the_denoising_is_looked_through(studio: Studio) -> None:
    """The last moment's x_t is the picture itself; the first moment is noisier."""
    for name, value in {"n": "2", "steps": "5", "seed": "4"}.items():
        studio.fill(name, value)
    studio.unfold()
    studio.click("#trace")
    job = studio.done(studio.make())
    assert job["trace"] == [1, 2, 3, 4, 5]
    studio.shown(job["id"], 2)
    studio.view(job["id"], 1)
    studio.press("Denoising", "dialog.viewer")
    slider = studio.see(".denoising input")
    shown = "return [...arguments[0].getContext('2d').getImageData(0, 0, 16, 16).data]"

    def drawn(index: int) -> np.ndarray:
        data = studio.driver.execute_script(shown, studio.all(".denoising canvas")[index])
        return np.array(data, np.uint8).reshape(SIZE, SIZE, 4)[:, :, :3]

    answer = pixels(httpx.get(studio.url + job["links"]["images"][1]).content)
    assert np.abs(drawn(0).astype(int) - answer).max() <= 1
    assert "no noise left" in studio.text(".denoising output")
    studio.slide(slider, 0)
    assert "1 of 5" in studio.text(".denoising output")
    kept = np.load(
        io.BytesIO(httpx.get(studio.url + job["links"]["image"], headers={"Accept": "application/x-npz"}).content)
    )
    for canvas, name in enumerate(("x_t", "x_0")):
        expected = ((kept[name][1, 0] + 1) * 127.5).round().clip(0, 255)
        assert np.abs(drawn(canvas) - expected).max() <= 1, name
    studio.press("Play", "dialog.viewer")
    wait_until(lambda: "5 of 5" in studio.text(".denoising output"), 10, "it plays to the end")
