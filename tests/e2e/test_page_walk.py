"""A latent walk on the page: frames from seed to seed, by one press, under a slider, and as a video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SIZE = 16
DRAWN = "const {width} = arguments[0]; return [width,"
DRAWN += "...arguments[0].getContext('2d').getImageData(0, 0, width, arguments[0].height).data]"


def walk(studio: Studio, *seeds: int, **each: Sequence[str]) -> list[dict[str, Any]]:
    """Draws a picture of each seed, and the walk between them; returns the jobs of the walk.

    `each` has further fields of the form, with a value for each picture.
    """
    for index, seed in enumerate(seeds):
        job_id = studio.made(1, seed=str(seed), **{name: values[index] for name, values in each.items()})
        studio.driver.execute_script(f"document.querySelector('#job-{job_id} a.picture').focus()")
        studio.keys("s")
    studio.press("Walk between", "#selection")
    wait_until(lambda: "Frame 1 of 60" in studio.text("#walk output"), 30, "all frames are there")
    tag = str(studio.driver.execute_script("return location.hash")).removeprefix("#walk=")
    found: list[dict[str, Any]] = httpx.get(f"{studio.url}/jobs", params={"tag": tag}).json()["jobs"]
    return sorted(found, key=lambda job: str(job["accepted_at"]))


def test_a_walk_leads_from_seed_to_seed(studio: Studio) -> None:
    first, second = walk(studio, 500, 600, 700)
    assert [first["task"]["seeds"], second["task"]["seeds"]] == [[500, 600], [600, 700]]
    assert first["urgency"] == second["urgency"] == 7
    assert len(first["task"]["shares"]) == len(second["task"]["shares"]) == 30
    assert first["task"]["shares"][0] == 0
    assert first["task"]["shares"][-1] < 1, "the end of one way is the beginning of the next"
    assert (second["task"]["shares"][0], second["task"]["shares"][-1]) == (0, 1)
    for frame, (job, index) in {3: (first, 3), 59: (second, 29)}.items():
        studio.slide(studio.one("#walk input"), frame)
        picture = np.asarray(studio.pixels(job["links"]["images"][index])).astype(int)

        def is_seen(picture: Any = picture) -> bool:
            width, *data = studio.driver.execute_script(DRAWN, studio.one("#walk canvas"))
            shown = np.array(data, np.uint8).reshape(width, width, 4)[:, :, :3].astype(int)
            factor = width // SIZE
            return bool((shown == picture.repeat(factor, 0).repeat(factor, 1)).all())

        wait_until(is_seen, 5, f"frame {frame} is seen")
        assert studio.text("#walk output") == f"Frame {frame + 1} of 60"
    at = "return Number(document.querySelector('#walk input').value)"
    studio.press("Play", "#walk")
    wait_until(lambda: studio.driver.execute_script(at) < 55, 10, "it runs back from the end")
    studio.press("Pause", "#walk")
    address = studio.driver.execute_script("return location.hash")
    studio.click("nav a[href='#gallery']")
    card = studio.see(f"#jobs a[href='{address}']").find_element("xpath", "ancestor::article")
    assert "60 pictures" in card.text, "all pictures are counted"
    assert "+36" in card.text, "and those that it does not show, too"
    studio.load(address)
    wait_until(lambda: "Frame 1 of 60" in studio.text("#walk output"), 10, "its address shows it again")


def test_a_walk_leads_from_the_conditions_of_one_picture_to_those_of_the_other(studio: Studio) -> None:
    (job,) = walk(studio, 51, 52, **{"model": ["with-glasses"] * 2, "condition:glasses": ["none", "eye patch"]})
    assert job["params"]["conditions"] == {"glasses": ["none"] * 30 + ["eye patch"] * 30}
    studio.driver.execute_script(FADES)
    studio.slide(studio.one("#walk input"), 28)
    studio.press("Play", "#walk")
    eighths = [share / 8 for share in range(1, 8)]
    wait_until(lambda: studio.driver.execute_script("return fades")[:7] == eighths, 10, "one picture fades in")
    studio.press("Pause", "#walk")


# Collects how strongly pictures are drawn over others.
FADES = """
window.fades = [];
const original = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (...parts) {
  if (this.globalAlpha < 1) fades.push(this.globalAlpha);
  return original.apply(this, parts);
};
"""


def test_a_walk_passes_through_the_pictures_that_were_chosen(studio: Studio) -> None:
    """To the last bit, although their run draws noise on its way."""
    (job,) = walk(studio, 53, 54, sampler=["ddim"] * 2, eta=["1"] * 2)
    assert (job["params"]["sampler"], job["params"]["eta"]) == ("ddim", 1)
    for frame, seed in ((0, 53), (59, 54)):
        query = {"seed": str(seed), "sampler": "ddim", "eta": "1", "steps": "3", "model": job["model"]}
        chosen = httpx.post(f"{studio.url}/generate", params=query, headers={"Prefer": "wait=30"}).headers["X-Job-Id"]
        shown = studio.pixels(job["links"]["images"][frame])
        assert shown.tobytes() == studio.pixels(f"/jobs/{chosen}/images/0").tobytes(), frame


def test_a_walk_is_saved_as_a_video(studio: Studio, tmp_path: Path) -> None:
    walk(studio, 800, 900)
    studio.downloads(tmp_path)
    studio.press("Save as video", "#walk")
    wait_until(lambda: list(tmp_path.glob("difuso-walk.*")), 40, "the video is saved")
    (video,) = tmp_path.glob("difuso-walk.*")
    assert video.suffix == ".webm"
    assert video.read_bytes().startswith(b"\x1a\x45\xdf\xa3"), "the mark of a Matroska file"
