"""Folders that diffusers wrote are served as they are, and give the pictures that diffusers gives for the same seed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from tests.serving import ENVIRONMENT, running
from tests.unet2d import TINY, their_network
from tests.waiting import wait_until

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.slow

SIZE, SEED = 16, 1234
# Random weights make a chaotic path of eps and DDIM without noise: 1e-6 in one output ends in another picture, in
# either program. What they predict as v is read as a picture directly, and stays comparable.
SCHEDULERS = {
    "fixed-small": {"variance_type": "fixed_small", "prediction_type": "v_prediction"},
    "fixed-large": {"variance_type": "fixed_large", "prediction_type": "epsilon"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines as `save_pretrained` writes them, and one flat, as the older repositories of the hub are."""
    models: Path = tmp_path_factory.mktemp("models")
    network = their_network(TINY | {"sample_size": SIZE})
    for name, arguments in SCHEDULERS.items():
        scheduler = diffusers.DDPMScheduler(1000, **arguments)
        diffusers.DDPMPipeline(network, scheduler).save_pretrained(models / name)
    implicit = diffusers.DDIMScheduler(1000, prediction_type="v_prediction")
    diffusers.DDIMPipeline(network, implicit).save_pretrained(models / "implicit")
    network.save_pretrained(models / "flat")
    diffusers.DDPMScheduler(1000, prediction_type="v_prediction").save_pretrained(models / "flat")
    return models


@pytest.fixture(scope="module")
def api(folders: Path, redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    ours = {"DIFUSO_MODELS_DIR": str(folders), "DIFUSO_SLOTS": "4"}
    with (
        running(tmp_path_factory.mktemp("run"), ENVIRONMENT | ours) as difuso,
        httpx.Client(base_url=difuso.url, timeout=120) as client,
    ):
        yield client


def theirs(folder: Path, kind: str, **arguments: Any) -> np.ndarray[Any, Any]:
    pipeline = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    (picture,) = pipeline(generator=torch.Generator().manual_seed(SEED), **arguments).images
    return np.asarray(picture, dtype=np.int64)


def ours(api: httpx.Client, model: str, **params: Any) -> np.ndarray[Any, Any]:
    answer = api.post("/generate", params={"model": model, "seed": SEED, **params}).raise_for_status()
    return np.asarray(Image.open(io.BytesIO(answer.content)), dtype=np.int64)


@pytest.mark.parametrize(("model", "steps"), [("fixed-small", 100), ("fixed-large", 500)])
def test_ancestral_pictures_are_those_of_the_pipeline(api: httpx.Client, folders: Path, model: str, steps: int) -> None:
    """Sampler, spacing, variance and clipping come from the folder."""
    expected = theirs(folders / model, "DDPMPipeline", num_inference_steps=steps)
    assert expected.std() > 10
    assert np.abs(ours(api, model, steps=steps) - expected).max() <= 1


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("model", ["implicit", "fixed-small"])
def test_implicit_pictures_are_those_of_the_pipeline(api: httpx.Client, folders: Path, model: str, eta: float) -> None:
    expected = theirs(folders / model, "DDIMPipeline", num_inference_steps=50, eta=eta)
    assert expected.std() > 10
    assert np.abs(ours(api, model, sampler="ddim", steps=50, eta=eta) - expected).max() <= 1


def test_a_flat_folder_is_the_same_model(api: httpx.Client) -> None:
    assert np.array_equal(ours(api, "flat", steps=20), ours(api, "fixed-small", steps=20))


def test_the_models_are_shown_with_their_facts(api: httpx.Client) -> None:
    def shown() -> dict[str, dict[str, Any]]:
        return {model["name"]: model for model in api.get("/models").json()["models"]}

    wait_until(lambda: all(model["state"] == "ready" for model in shown().values()), 60, "all models are ready")
    found = shown()
    assert found.keys() == {*SCHEDULERS, "implicit", "flat"}
    assert found["fixed-large"]["variance"] == "fixed_large"
    own = {"sampler": "ddpm", "steps": 1000, "spacing": "leading", "eta": 0.0, "guidance_scale": 1.0}
    assert found["fixed-small"]["defaults"] == own
    assert found["implicit"]["defaults"]["sampler"] == "ddim"
    assert found["flat"]["workers"] == 1, "front end and worker give a folder without sums the same version"


def test_a_coarse_chain_with_the_large_variance_is_refused_and_the_small_one_offered(api: httpx.Client) -> None:
    params: dict[str, Any] = {"model": "fixed-large", "steps": 100, "seed": SEED}
    answer = api.post("/generate", params=params)
    assert answer.status_code == 422
    assert "variance=fixed_small" in answer.json()["errors"][0]["detail"]
    assert api.post("/generate", params=params | {"variance": "fixed_small"}).status_code == 200
