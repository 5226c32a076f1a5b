"""Models of other shapes than squares of colours, over the whole stack: 16x24, four channels, 16 bits of grey."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from typer.testing import CliRunner

from difuso import Client, cli
from difuso.app.formats import SHEET_GAP
from difuso.errors import UserError
from tests.pictures import saved
from tests.serving import Difuso
from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

NAMES = ("wide", "four", "grey")
WIDE, FOUR, GREY = (f"model={name}&steps=3&seed=7" for name in NAMES)
NPZ, APNG = ({"Accept": form} for form in ("application/x-npz", "image/apng"))
RNG = np.random.default_rng(0)
A = saved(Image.fromarray(RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)), "PNG")
DEEP = RNG.integers(0, 65536, (8, 12), dtype=np.uint16)

Pixels = np.ndarray[Any, Any]


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def arrays(answer: httpx.Response) -> dict[str, Pixels]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-npz"
    with np.load(io.BytesIO(answer.content)) as found:
        return dict(found)


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    text: str = answer.json()["detail"]
    return text


def newest(api: httpx.Client) -> str:
    (job,) = api.get("/jobs?limit=1").raise_for_status().json()["jobs"]
    return str(job["id"])


def test_models_are_listed_with_height_and_width(api: httpx.Client) -> None:
    found = {model["name"]: model for model in api.get("/models").json()["models"]}
    assert [found[name]["image_size"] for name in NAMES] == [[16, 24], [8, 12], [8, 12]]
    assert [found[name]["channels"] for name in NAMES] == [3, 4, 1]


def test_a_wide_image_a_sheet_an_animation_and_arrays(api: httpx.Client) -> None:
    assert opened(api.post(f"/generate?{WIDE}")).size == (24, 16)
    assert opened(api.post(f"/generate?{WIDE}&n=3")).size == (2 * 24 + SHEET_GAP, 2 * 16 + SHEET_GAP)
    moving = opened(api.post(f"/generate?{WIDE}&n=3", headers=APNG))
    assert (moving.size, getattr(moving, "n_frames", 1)) == ((24, 16), 4)
    found = arrays(api.post(f"/generate?{WIDE}&n=3&trace=last", headers=NPZ))
    assert found["arr_0"].shape == (3, 16, 24, 3)
    assert found["x_t"].shape == (3, 1, 16, 24, 3)
    levels = ((found["x_t"][:, 0] + 1) * 127.5).round().clip(0, 255)
    assert np.array_equal(levels, found["arr_0"])


def test_a_pixel_transformer_on_a_flow_draws_the_same_bytes_alone_and_in_a_batch(api: httpx.Client) -> None:
    several, alone = (api.post(f"/generate?model=flow&seed={seed}&n={n}", headers=NPZ) for seed, n in ((7, 5), (9, 1)))
    assert np.array_equal(arrays(several)["arr_0"][2], arrays(alone)["arr_0"][0])


def test_images_of_four_channels_are_arrays(api: httpx.Client) -> None:
    answer = api.post(f"/generate?{FOUR}&n=2&trace=last")
    found = arrays(answer)
    assert found["arr_0"].shape == (2, 8, 12, 4)
    assert found["arr_0"].dtype == np.uint8
    levels = ((found["x_t"][:, 0] + 1) * 127.5).round().clip(0, 255)
    assert np.array_equal(levels, found["arr_0"])
    job = api.get(f"/jobs/{answer.headers['X-Job-Id']}").json()
    assert "images" not in job["links"]
    for index, path in enumerate(job["links"]["pictures"]):
        grid = np.asarray(opened(api.get(path)))
        assert grid.shape == (2 * 9 - 1, 2 * 13 - 1)
        assert np.array_equal(grid[9:, :12], found["arr_0"][index, :, :, 2])
    again = api.get(job["links"]["image"])
    assert again.content == answer.content
    assert api.get(job["links"]["image"], headers={"If-None-Match": again.headers["ETag"]}).status_code == 304
    plain = api.get(job["links"]["image"], headers={"Accept": "application/x-npy"})
    assert np.array_equal(np.load(io.BytesIO(plain.content)), found["arr_0"])
    deep = arrays(api.post(f"/generate?{FOUR}&n=2&bits=16"))["arr_0"]
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - found["arr_0"]).max() < 0.51


@pytest.mark.parametrize(("name", "size"), [("two", (12, 17)), ("five", (25, 26)), ("sixteen", (38, 53))])
def test_pictures_and_films_of_any_channels_are_grids(api: httpx.Client, name: str, size: tuple[int, int]) -> None:
    answer = api.post(f"/generate?model={name}&steps=3&seed=7&n=2&bits=16")
    assert arrays(answer)["arr_0"].shape[:3] == (2, 8, 12)
    (_, path) = api.get(f"/jobs/{answer.headers['X-Job-Id']}").json()["links"]["pictures"]
    assert opened(api.get(path)).size == size
    assert opened(api.get(f"{path}/film")).size == (3 * size[0], size[1])
    moving = opened(api.get(f"{path}/film", headers=APNG))
    factor = -(-256 // max(size))
    assert (moving.size, getattr(moving, "n_frames", 1)) == ((factor * size[0], factor * size[1]), 4)


@pytest.mark.slow
def test_the_page_shows_images_of_four_channels_as_pictures(
    difuso: Difuso, api: httpx.Client, driver: webdriver.Chrome
) -> None:
    job = api.post(f"/generate?{FOUR}&n=2").headers["X-Job-Id"]
    studio = Studio(driver, difuso.url, "desktop")
    studio.open()
    seen = "return [...document.querySelectorAll(arguments[0])].map(each => [each.naturalWidth, each.naturalHeight])"
    sizes = [[2 * 13 - 1, 2 * 9 - 1]] * 2
    wait_until(lambda: driver.execute_script(seen, f"#job-{job} figure a img") == sizes, 15, "the grids are seen")
    studio.see(f"#job-{job} .saveArrays")
    assert studio.errors() == []


def test_what_a_shape_cannot_be_is_refused_before_anything_is_drawn(api: httpx.Client) -> None:
    done, before = api.post(f"/generate?{FOUR}").headers["X-Job-Id"], newest(api)
    for form in ("image/png", "image/apng", "application/zip"):
        answer = api.post(f"/generate?{FOUR}", headers={"Accept": form})
        assert "are not PNGs: accept application/x-npz or application/x-npy or application/json" in detail(answer, 406)
        assert "not PNGs" in detail(api.get(f"/jobs/{done}/image", headers={"Accept": form}), 406)
    answer = api.post(f"/denoise?sigma=10&{FOUR}", files={"image": A})
    assert ".npy file of shape (H, W, 4)" in detail(answer, 422)
    assert "bits: Input should be 8: wide makes RGB images" in detail(api.post(f"/generate?{WIDE}&bits=16"), 422)
    assert newest(api) == before


def test_the_client_has_four_channels_as_pixels_only(difuso: Difuso) -> None:
    with Client(difuso.url) as client:
        result = client.generate(model="four", steps=3, seed=7, n=2)
        assert (result.pixels.shape, len(result), result.pngs) == ((2, 8, 12, 4), 2, ())
        with pytest.raises(TypeError, match="use pixels"):
            result[0]


def test_a_command_writes_four_channels_into_one_file(
    difuso: Difuso, small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(small_models))
    sample = ["sample", "--model", "four", "--steps", "3", "--seed", "7"]
    with httpx.Client(base_url=difuso.url) as api:
        before = newest(api)
        for where in ([], ["--server", difuso.url]):
            refused = CliRunner().invoke(cli.app, [*sample, "-o", str(tmp_path / "folder"), *where])
            assert isinstance(refused.exception, UserError)
            assert "--out FILE.npz" in str(refused.exception)
        assert newest(api) == before
    many = CliRunner().invoke(cli.app, [*sample, "-n", "2", "-o", str(tmp_path / "many.npz"), "--server", difuso.url])
    assert "without --server only" in str(many.exception)
    monkeypatch.setenv("DIFUSO_DEVICE", "cpu")
    drawn = []
    for name, more in {
        "one.npy": ["--bits", "16"],
        "many.npy": [],
        "served.npy": ["--bits", "16", "--server", difuso.url],
    }.items():
        CliRunner().invoke(cli.app, [*sample, "-n", "2", "-o", str(tmp_path / name), *more], catch_exceptions=False)
        drawn.append(np.load(tmp_path / name))
    assert np.array_equal(drawn[0], drawn[2])
    assert (drawn[1].dtype, drawn[1].shape) == (np.uint8, (2, 8, 12, 4))
    assert np.abs(drawn[0] / 257 - drawn[1]).max() < 0.51


def test_sheets_strips_and_arrays_have_16_bits_too(api: httpx.Client) -> None:
    answer = api.post(f"/generate?{GREY}&n=2&bits=16")
    sheet = opened(answer)
    assert (sheet.mode, sheet.size) == ("I;16", (2 * 12 + SHEET_GAP, 8))
    pixels = arrays(api.get(f"/jobs/{answer.headers['X-Job-Id']}/image", headers=NPZ))["arr_0"]
    assert pixels.dtype == np.uint16
    assert np.array_equal(np.asarray(sheet)[:, :12], pixels[0, :, :, 0])
    assert (np.asarray(sheet)[:, 12 : 12 + SHEET_GAP] == 65535).all()
    assert api.get(f"/jobs/{answer.headers['X-Job-Id']}").json()["bits"] == 16
    ends = {"image_a": saved(Image.fromarray(DEEP), "PNG"), "image_b": A}  # of 16 and of 8 bits
    for bits, mode in ((8, "L"), (16, "I;16")):
        query = f"/interpolate?{GREY}&lambda=0.3&lambda=0.6&bits={bits}"
        strip = opened(api.post(query, files=ends))
        assert (strip.mode, strip.size) == (mode, (4 * 12 + 3 * SHEET_GAP, 8))
        assert np.abs(np.asarray(strip)[:, :12] * (1.0 if bits == 16 else 257.0) - DEEP).max() <= 129
        assert getattr(opened(api.post(query, files=ends, headers=APNG)), "n_frames", 1) == 6
