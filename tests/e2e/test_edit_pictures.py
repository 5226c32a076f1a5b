"""Pictures from pictures over HTTP: one `difuso serve`, real uploads, real answers."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

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
