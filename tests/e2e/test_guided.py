"""A classifier that was trained here guides the images of requests, and what cannot be guided is refused."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving import ENVIRONMENT, Difuso, running
from tests.shades import guided_model, write_recipe
from training.recipe_reading import load_recipe
from training.run.run import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(scope="module")
def difuso(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Difuso]:
    """Serves a model that draws noise: `plain` alone, and `guided` with a classifier of dark and bright images."""
    models, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("training")
    plain = guided_model(models / "plain")
    recipe = load_recipe(str(write_recipe(folder, guides=plain)), ["max_steps=200"])
    train(recipe, folder / "run")
    shutil.copytree(folder / "run/model", models / "guided")
    ours = {"DIFUSO_MODELS_DIR": str(models)}
    with running(tmp_path_factory.mktemp("difuso"), ENVIRONMENT | ours) as difuso:
        yield difuso


def ask(difuso: Difuso, **query: Any) -> httpx.Response:
    params: dict[str, Any] = {"model": "guided", "seed": 3} | query
    return httpx.post(f"{difuso.url}/generate", params=params, timeout=60)


def shade(answer: httpx.Response) -> float:
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        return float(np.asarray(image.convert("L")).mean())


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "unipc"])
def test_the_scale_leads_an_image_to_its_label(difuso: Difuso, sampler: str) -> None:
    query = {"sampler": sampler, "steps": 20, "spacing": "trailing"}
    alone = shade(ask(difuso, **query))
    dark, bright = (shade(ask(difuso, label=label, classifier_scale=8, **query)) for label in ("dark", "bright"))
    assert dark + 2 < alone < bright - 2


def test_without_a_scale_an_image_is_that_of_the_model_without_the_classifier(difuso: Difuso) -> None:
    for query in ({}, {"label": "dark"}, {"label": "dark", "classifier_scale": 0}):
        one, other = (ask(difuso, model=model, **query) for model in ("plain", "guided"))
        pixels = [np.asarray(Image.open(io.BytesIO(answer.content))) for answer in (one, other)]
        assert np.array_equal(pixels[0], pixels[1])
        assert one.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"model": "plain", "label": "dark", "classifier_scale": 1}, "Input should be 0: plain has no classifier"),
        ({"classifier_scale": 1}, "This needs a label"),
        ({"label": "dark", "classifier_scale": -1}, "greater than or equal to 0"),
        ({"label": "grey", "classifier_scale": 1}, "Input should be a class of guided"),
    ],
)
def test_what_cannot_be_guided_is_refused(difuso: Difuso, query: dict[str, Any], detail: str) -> None:
    answer = ask(difuso, **query)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["parameter"] == ("label" if query.get("label") == "grey" else "classifier_scale")
    assert detail in error["detail"]


def test_models_show_which_of_them_a_classifier_can_guide(difuso: Difuso) -> None:
    shown = {model["name"]: model for model in httpx.get(f"{difuso.url}/models", timeout=30).json()["models"]}
    assert shown["guided"]["classifier_classes"] == 2
    assert "classifier_classes" not in shown["plain"]
    assert shown["guided"]["version"] != shown["plain"]["version"], "the classifier counts"
