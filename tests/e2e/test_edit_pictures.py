"""Pictures from pictures over HTTP: one `difuso serve`, real uploads, real answers."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.encoders import FRAME_MILLISECONDS, SHEET_GAP
from jobs.images.fitting import fit, read_image
from jobs.store.result_store import ResultStore
from model.shape import Shape
from tests.pictures import saved

SIZE = 16
ASYNC = {"Prefer": "respond-async"}
JSON = {"Accept": "application/json"}


def picture(*shape: int, sigma: float = 0.0) -> np.ndarray[Any, Any]:
    """A smooth gradient, with noise."""
    noise = np.random.default_rng(7).normal(0.0, sigma, (*shape, 3))
    across = np.linspace(60, 190, shape[1])[None, :, None] + np.linspace(-20, 20, shape[0])[:, None, None]
    return np.clip(np.round(across + noise), 0, 255).astype(np.uint8)


def as_png(pixels: np.ndarray[Any, Any]) -> bytes:
    return saved(Image.fromarray(pixels), "PNG")


def pixels_of(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


A, B = as_png(picture(SIZE, SIZE)), as_png(picture(SIZE, SIZE)[::-1, ::-1])
MASK_PIXELS = np.zeros((SIZE, SIZE), np.uint8)
MASK_PIXELS[4:11, 5:13] = 255
MASK = as_png(MASK_PIXELS)
BOTH = {"image_a": A, "image_b": B}


def uploads(store: Path) -> list[Path]:
    return sorted((store / "uploads").rglob("*.png"))


def refused(answer: httpx.Response, status: int, kind: str, **where: str) -> None:
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["type"] == f"/problems/{kind}"
    for name, value in where.items():
        assert problem["errors"][0][name] == value


def finished(api: httpx.Client, path: str) -> bool:
    return "ended_at" in api.get(path).json()


def timesteps_of(api: httpx.Client, job: dict[str, Any]) -> list[int]:
    shown: list[int] = api.get(job["links"]["self"], params={"timesteps": True}).raise_for_status().json()["timesteps"]
    return shown


def test_one_lambda_is_one_picture_that_says_how_it_was_made(api: httpx.Client) -> None:
    answer = api.post("/interpolate?lambda=0.3&steps=5&seed=3&t=400", files=BOTH).raise_for_status()
    assert answer.headers["content-type"] == "image/png"
    made = Image.open(io.BytesIO(answer.content))
    assert made.size == (SIZE, SIZE)
    facts = json.loads(made.info["difuso"])
    assert facts["seed"] == 3
    assert facts["timesteps"][0] == 400
    assert api.post("/interpolate?lambda=0.3&steps=5&seed=3&t=400", files=BOTH).content == answer.content


def test_several_lambdas_are_a_strip_between_both_pictures(api: httpx.Client) -> None:
    sent = "lambda=0&lambda=0.5&lambda=1&steps=5&seed=3"
    strip = pixels_of(api.post(f"/interpolate?{sent}", files=BOTH).raise_for_status().content)
    pitch = SIZE + SHEET_GAP
    assert strip.shape == (SIZE, 5 * pitch - SHEET_GAP, 3)
    tiles = [strip[:, i * pitch : i * pitch + SIZE] for i in range(5)]
    assert np.array_equal(tiles[0], pixels_of(A))
    assert np.array_equal(tiles[-1], pixels_of(B))
    alone = api.post("/interpolate?lambda=0&steps=5&seed=3", files=BOTH).raise_for_status().content
    assert np.array_equal(tiles[1], pixels_of(alone))


def test_an_animation_goes_there_and_back(api: httpx.Client) -> None:
    sent = "lambda=0.25&lambda=0.75&steps=5&seed=3&mode=ddim"
    answer = api.post(f"/interpolate?{sent}", files=BOTH, headers={"Accept": "image/apng"}).raise_for_status()
    assert answer.headers["content-type"] == "image/apng"
    frames = []
    with Image.open(io.BytesIO(answer.content)) as animation:
        assert animation.info["loop"] == 0
        for index in range(getattr(animation, "n_frames", 1)):
            animation.seek(index)
            assert animation.info["duration"] == FRAME_MILLISECONDS
            frames.append(np.asarray(animation.convert("RGB")))
    assert len(frames) == 6
    assert np.array_equal(frames[0], pixels_of(A))
    assert np.array_equal(frames[3], pixels_of(B))
    assert all(np.array_equal(frames[i], frames[6 - i]) for i in (1, 2))
    assert len({frame.tobytes() for frame in frames}) == 4


def test_a_zip_names_the_task_and_the_pictures(api: httpx.Client) -> None:
    wide = as_png(picture(20, 30))
    answer = api.post(
        "/interpolate?lambda=0.2&lambda=0.8&steps=4&fit=contain",
        files={"image_a": wide, "image_b": B},
        headers={"Accept": "application/zip"},
    )
    with zipfile.ZipFile(io.BytesIO(answer.raise_for_status().content)) as archive:
        assert sorted(archive.namelist()) == ["0.png", "1.png", "manifest.json"]
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["kind"] == "interpolate"
    assert manifest["task"]["shares"] == [0.2, 0.8]
    assert [(each["width"], each["height"]) for each in manifest["pictures"]] == [(30, 20), (SIZE, SIZE)]


def test_the_job_says_how_much_noise_was_found_and_where_the_picture_entered(api: httpx.Client) -> None:
    noisy = {"image": as_png(picture(SIZE, SIZE, sigma=25))}
    job = api.post("/denoise?steps=6&n=2", files=noisy, headers=JSON).raise_for_status().json()
    assert job["kind"] == "denoise"
    assert job["task"]["estimated"] is True
    assert job["task"]["sigma"] == pytest.approx(25, rel=0.2)
    timesteps = timesteps_of(api, job)
    assert timesteps[0] == job["task"]["depth"]
    assert len(timesteps) == job["params"]["steps"] == 6
    assert (job["pictures"][0]["width"], job["pictures"][0]["height"]) == (SIZE, SIZE)
    assert len(job["links"]["images"]) == 2


def test_a_guess_and_an_average_are_one_picture(api: httpx.Client) -> None:
    noisy = {"image": as_png(picture(SIZE, SIZE, sigma=25))}
    guess = api.post("/denoise?mode=mmse&sigma=25", files=noisy).raise_for_status()
    assert Image.open(io.BytesIO(guess.content)).size == (SIZE, SIZE)
    job = api.post("/denoise?sigma=25&n=4&average=true&steps=4", files=noisy, headers=JSON).raise_for_status().json()
    assert len(job["links"]["images"]) == 1
    assert job["steps"] == {"done": 16, "total": 16}
    assert api.get(job["links"]["image"]).raise_for_status().headers["content-type"] == "image/png"


def test_a_clean_picture_is_drawn_anew(api: httpx.Client) -> None:
    job = api.post("/denoise?strength=0.5&steps=4", files={"image": A}, headers=JSON).raise_for_status().json()
    assert job["task"]["depth"] == timesteps_of(api, job)[0] == 499
    assert "sigma" not in job["task"]


def test_inpainting_keeps_what_was_measured(api: httpx.Client) -> None:
    files = {"image": A, "mask": MASK}
    made = pixels_of(api.post("/restore?task=inpaint&seed=1", files=files).raise_for_status().content)
    missing = MASK_PIXELS > 0
    assert np.array_equal(made[~missing], pixels_of(A)[~missing])
    assert not np.array_equal(made[missing], pixels_of(A)[missing])


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("task=superres&factor=2", lambda made: made.reshape(8, 2, 8, 2, 3).mean((1, 3))),
        ("task=colorize", lambda made: made.mean(-1)),
        ("task=deblur&sigma=5", None),
    ],
)
def test_each_restoration_answers_with_a_whole_picture(api: httpx.Client, query: str, kept: Any) -> None:
    measured = picture(8, 8) if "superres" in query else picture(SIZE, SIZE)
    answer = api.post(f"/restore?{query}&seed=1", files={"image": as_png(measured)}).raise_for_status()
    made = pixels_of(answer.content).astype(float)
    assert made.shape == (SIZE, SIZE, 3)
    if kept is not None:
        expected = measured.astype(float) if "superres" in query else np.asarray(Image.fromarray(measured).convert("L"))
        assert np.abs(kept(made) - expected).mean() < 3  # grey levels, of rounding and clipping


def test_a_key_means_its_pictures_too(api: httpx.Client, store: Path) -> None:
    key = {"Idempotency-Key": "edit-1", **JSON}
    first = api.post("/denoise?strength=0.3&steps=3&seed=1", files={"image": A}, headers=key).raise_for_status().json()
    again = api.post("/denoise?strength=0.3&steps=3&seed=1", files={"image": A}, headers=key).raise_for_status().json()
    assert again["id"] == first["id"]
    other = api.post("/denoise?strength=0.3&steps=3&seed=1", files={"image": B}, headers=key)
    refused(other, 422, "idempotency-conflict")
    kept = stored(A)
    assert ResultStore(str(store)).upload(first["id"], hashlib.sha256(kept).hexdigest()) == kept


def stored(png: bytes) -> bytes:
    """As the API writes a picture that fits already."""
    return fit(read_image(png), shape=Shape.of(SIZE, 3)).png


def test_what_is_refused_leaves_nothing_behind(api: httpx.Client, store: Path) -> None:
    before = uploads(store)
    larger = as_png(np.zeros((SIZE, SIZE + 1), np.uint8))
    refused(api.post("/denoise", files={"image": A[:-20]}), 422, "bad-image", part="image")
    refused(api.post("/denoise", files={"image": b"GIF89a" + bytes(99)}), 415, "unsupported-format", part="image")
    refused(api.post("/interpolate", files={"image_a": A}), 422, "invalid-request", part="image_b")
    refused(api.post("/interpolate?seed=3"), 422, "invalid-request", part="image_a")
    refused(api.post("/interpolate?seed=3&seed=9", files=BOTH), 422, "invalid-request", pointer="")
    refused(api.post("/interpolate?seed=3&seed=9", content=b"image"), 422, "invalid-request", pointer="")
    refused(api.post("/denoise", files={"image": A, "mask": MASK}), 422, "invalid-request", part="mask")
    inpaint = "/restore?task=inpaint"
    refused(api.post(inpaint, files={"image": A}), 422, "invalid-request", part="mask")
    refused(api.post(inpaint, files={"image": A, "mask": larger}), 422, "invalid-request", part="mask")
    refused(api.post("/restore?task=colorize", files={"image": A, "mask": MASK}), 422, "invalid-request", part="mask")
    assert uploads(store) == before


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/interpolate?share=0.5", "share"),
        ("/interpolate?lambda=0.1&lambda=0.2&lambda=0.3&seed=1&seed=2&seed=3", "seed"),
        ("/interpolate?seed=1&seed=2&sampler=ddpm", "sampler"),
        ("/interpolate?seed=1&seed=2&t=5", "t"),
        ("/interpolate?lambda=2", "lambda"),
        ("/interpolate?lambda=x", "lambda"),
        ("/denoise?sigma=1&sigma=2", "sigma"),
        ("/denoise?lambda=0.5", "lambda"),
        ("/denoise?sigma=1&t=5", "t"),
        ("/restore", "task"),
        ("/restore?task=upscale", "task"),
        ("/restore?task=inpaint&task=colorize", "task"),
        ("/restore?task=superres&factor=3", "factor"),
        ("/denoise?steps=0", "steps"),
    ],
)
def test_a_wrong_parameter_is_named(api: httpx.Client, path: str, name: str) -> None:
    refused(api.post(path, files={"image": A}), 422, "invalid-request", parameter=name)
