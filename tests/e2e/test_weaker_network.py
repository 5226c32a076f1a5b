"""A model with a weaker network is guided by it, and its images say so."""

from __future__ import annotations

import io
import json
from typing import Any
from zipfile import ZipFile

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving import Difuso

pytestmark = pytest.mark.timeout(180)

SCALE = 2.5
GUIDED = 5  # of eight steps, those with a sigma above 0.5 and up to 20


def ask(difuso: Difuso, **query: Any) -> bytes:
    params: dict[str, Any] = {"model": "guided", "seed": 3, "steps": 8} | query
    return httpx.post(f"{difuso.url}/generate", params=params, timeout=60).raise_for_status().content


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def test_the_model_is_guided_without_being_asked(difuso: Difuso) -> None:
    guided, stronger = ask(difuso), ask(difuso, guidance_scale=6)
    assert ask(difuso, guidance_scale=SCALE) == guided
    with Image.open(io.BytesIO(guided)) as image:
        assert json.loads(image.info["difuso"])["guidance_scale"] == SCALE
    off = ask(difuso, guidance_scale=1)
    assert np.array_equal(pixels(off), pixels(ask(difuso, model="tiny")))
    assert not np.array_equal(pixels(off), pixels(guided))
    assert not np.array_equal(pixels(stronger), pixels(guided))


def test_it_guides_within_the_noise_levels_of_the_request(difuso: Difuso) -> None:
    limits: dict[str, Any] = {"guidance_low": 0.5, "guidance_high": 20}
    asked = {"model": "guided", "steps": 8, **limits}
    limited = ask(difuso, **limits)
    with Image.open(io.BytesIO(limited)) as image:
        recipe = json.loads(image.info["difuso"])
    assert recipe.items() >= limits.items()
    assert len({pixels(png).tobytes() for png in (limited, ask(difuso), ask(difuso, guidance_scale=1))}) == 3
    with httpx.Client(base_url=difuso.url, timeout=60) as client:
        price = client.post("/generate", params={**asked, "dry_run": "true"}).json()
        job = client.post("/generate", params=asked, headers={"Prefer": "respond-async"})
        done = client.get(job.headers["Location"], headers={"Prefer": "wait=30"}).json()
        refused = client.post("/generate", params={"model": "guided", "guidance_low": 2, "guidance_high": 1})
    assert (price["image_steps"], price["params"]["guidance_high"]) == (8 + GUIDED, 20)
    assert done["steps"] == {"done": 8 + GUIDED, "total": 8 + GUIDED}
    assert done["params"].items() >= limits.items()
    assert refused.status_code == 422
    assert "Must be greater than guidance_low, 2" in refused.text


def test_bytes_are_the_same_in_a_batch(difuso: Difuso) -> None:
    limits: dict[str, Any] = {"guidance_low": 0.5, "guidance_high": 20}
    together = httpx.post(
        f"{difuso.url}/generate",
        params={"model": "guided", "seed": 2, "n": 3, "steps": 8, **limits},
        headers={"Accept": "application/zip"},
        timeout=60,
    )
    with ZipFile(io.BytesIO(together.raise_for_status().content)) as archive:
        assert archive.read("1.png") == ask(difuso, **limits)


def test_models_show_which_of_them_a_weaker_network_guides(difuso: Difuso) -> None:
    shown = {model["name"]: model for model in httpx.get(f"{difuso.url}/models", timeout=30).json()["models"]}
    assert shown["guided"]["weaker"] is True
    assert shown["guided"]["defaults"]["guidance_scale"] == SCALE
    assert "weaker" not in shown["tiny"]


def test_a_model_without_one_refuses_to_be_guided(difuso: Difuso) -> None:
    answer = httpx.post(f"{difuso.url}/generate?model=tiny&guidance_scale=2", timeout=60)
    assert answer.status_code == 422
    assert "tiny has no classes" in answer.text
