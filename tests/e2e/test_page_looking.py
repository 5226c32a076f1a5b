"""Looking through many pictures: their size, large jobs, several at once, search, and comparing."""

import io
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SIZE = 16
WIDTH = "return document.querySelector(arguments[0])?.getBoundingClientRect().width"


def select(studio: Studio, job_id: str, index: int) -> None:
    figure = studio.one(f"#job-{job_id} figure[data-index='{index}']")
    studio.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    if studio.is_phone and not studio.all("body.choosing"):
        studio.hold(figure)
    elif not studio.is_phone:
        ActionChains(studio.driver).move_to_element(figure).perform()
    studio.see(f"#job-{job_id} figure[data-index='{index}'] .box").click()


@at_both_widths
def test_several_pictures_are_saved_marked_and_deleted_together(studio: Studio, tmp_path: Path) -> None:
    first, second = studio.made(2, seed="300"), studio.made(1, seed="310")
    select(studio, first, 1)
    select(studio, second, 0)
    assert "2 selected" in studio.text("#selection")
    studio.downloads(tmp_path)
    studio.press("Save", "#selection")
    found = studio.downloaded(tmp_path, "difuso-pictures.zip")
    with zipfile.ZipFile(io.BytesIO(found.read_bytes())) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["1-difuso-tiny-Seed-301.png", "2-difuso-tiny-Seed-310.png"]
        for name, (job_id, index) in zip(archive.namelist(), ((first, 1), (second, 0)), strict=True):
            assert archive.read(name) == httpx.get(f"{studio.url}/jobs/{job_id}/images/{index}").content
    studio.press("Favourites", "#selection")
    wait_until(lambda: len(studio.all("#jobs figure.favourite")) == 2, 5, "both are favourites")
    assert studio.driver.switch_to.active_element.text == "Favourites", "the button keeps the focus"
    studio.press("Favourites", "#selection")
    wait_until(lambda: not studio.all("#jobs figure.favourite"), 5, "neither is")
    studio.press("Delete the whole jobs (3)", "#selection")
    wait_until(lambda: not studio.all(f"#job-{first}, #job-{second}"), 5, "both jobs go")
    assert "3 pictures deleted" in studio.text("#notices")
    studio.press("Undo", "#notices")
    wait_until(lambda: len(studio.all(f"#job-{first}, #job-{second}")) == 2, 5, "both are back")
    assert httpx.get(f"{studio.url}/jobs/{first}/images/0").status_code == 200


def test_pictures_are_as_large_as_wanted_and_fill_their_row(studio: Studio) -> None:
    one, many = studio.made(1), studio.made(9)
    sizes = [studio.driver.execute_script(WIDTH, f"#job-{each} img") for each in (one, many)]
    assert sizes == [256, 128], "one picture is larger, at most twice as large as wanted"
    slider = studio.one("#density")
    slider.send_keys(Keys.HOME)
    picture = f"#job-{many} img"
    wait_until(lambda: studio.driver.execute_script(WIDTH, picture) == 5 * SIZE, 5, "nine of 80 pixels fill the row")
    studio.load()
    studio.shown(many, 9)
    assert studio.driver.execute_script(WIDTH, picture) == 5 * SIZE, "it stays so"


def test_words_find_jobs_by_tag_class_and_seed(studio: Studio) -> None:
    post = f"{studio.url}/generate?model=with-classes&steps=2&label=star&seed=987654"
    tagged = str(httpx.post(f"{post}&tag=a-word-of-mine", timeout=30).headers["X-Job-Id"])
    plain = str(httpx.post(post.replace("star", "0"), timeout=30).headers["X-Job-Id"])

    def found() -> set[str]:
        script = "return [...document.querySelectorAll('#jobs > article[id]')].map(each => each.id.slice(4))"
        return set(studio.driver.execute_script(script))

    field = studio.one("#filters [type=search]")
    for words, expected in (("word-of", {tagged}), ("987654", {tagged, plain}), ("987654 star", {tagged})):
        field.clear()
        field.send_keys(words)

        def are_found(expected: set[str] = expected) -> bool:
            return found() == expected

        wait_until(are_found, 10, f"{words} finds its jobs")
    field.clear()
    field.send_keys("there is no such job")
    wait_until(lambda: "Nothing matches" in studio.text("#more"), 20, "the page says so")
    studio.press("Show all", "#more")
    wait_until(lambda: {tagged, plain} <= found(), 10, "no filter is left")


# The gallery reads job by job.
ONE_BY_ONE = "const original = window.fetch;"
ONE_BY_ONE += "window.fetch = (path, options) => original(path.replace('limit=12', 'limit=1'), options)"


def pixels(studio: Studio, job_id: str, index: int) -> np.ndarray[Any, Any]:
    content = httpx.get(f"{studio.url}/jobs/{job_id}/images/{index}").content
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def drawn(studio: Studio, canvas: WebElement) -> np.ndarray[Any, Any]:
    script = "const {width, height} = arguments[0]; return [width, height,"
    script += "...arguments[0].getContext('2d').getImageData(0, 0, width, height).data]"
    width, height, *data = studio.driver.execute_script(script, canvas)
    return np.array(data, np.uint8).reshape(height, width, 4)[:, :, :3].astype(int)


def enlarged(picture: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    return picture.repeat(size // SIZE, 0).repeat(size // SIZE, 1)


def test_pictures_are_compared(studio: Studio) -> None:
    first, second = studio.made(1, seed="350"), studio.made(1, seed="350", steps="5")
    for job_id in (first, second):
        studio.driver.execute_script(f"document.querySelector('#job-{job_id} a.picture').focus()")
        studio.keys("s")
    studio.press("Compare", "#selection")
    wait_until(lambda: len(studio.all("#compare canvas")) == 2, 10, "both are shown")
    assert not studio.one("#selection").is_displayed(), "it would lie over them"
    pictures = [pixels(studio, job_id, 0) for job_id in (first, second)]
    for canvas, picture in zip(studio.all("#compare canvas"), pictures, strict=True):
        shown = drawn(studio, canvas)
        assert (shown == enlarged(picture, len(shown))).all()
    table = studio.text("#compare table")
    assert "Steps" in table
    assert "3" in table
    assert "5" in table
    assert "Seed" not in table.replace("Seed 350", ""), "what is equal is left out"
    left = studio.all("#compare canvas")[0]
    left.click()
    left.send_keys("+", "+")
    zoomed = [drawn(studio, canvas) for canvas in studio.all("#compare canvas")]
    assert all(len(np.unique(each[0], axis=0)) <= SIZE // 2 for each in zoomed), "both show a part of their pictures"
    studio.press("Difference", "#compare")
    apart = np.abs(pictures[0] - pictures[1])
    assert f"{apart.mean():.1f} grey levels apart on average, {apart.max()} at most" in studio.text("#compare output")
    studio.press("Divider", "#compare")
    studio.slide(studio.one("#compare .compare input"), 20)
    at = "return document.querySelector('#compare .compare').style.getPropertyValue('--at')"
    assert studio.driver.execute_script(at) == "20%"
    narrow = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    studio.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    wide = "return document.documentElement.scrollWidth - innerWidth"
    wait_until(lambda: studio.driver.execute_script(wide) <= 0, 5, "it fits a window that has become narrow")
    link = studio.driver.execute_script("return location.hash")
    assert link == f"#compare={first}/0,{second}/0"
    studio.load(link)
    wait_until(lambda: len(studio.all("#compare canvas")) == 2, 10, "a link shows the comparison again")
