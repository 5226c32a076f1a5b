"""A checkpoint that lucidrains' own trainer wrote is converted, served, and draws what its own samplers draw."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from tests.foreign import reference
from tests.lucid import TRAINED_SEEDS, TRAINED_STEPS, trained_checkpoint
from tests.serving import ENVIRONMENT, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lucid")
    source = trained_checkpoint(folder / "model-1.pt")
    source.with_suffix(".json").write_text(json.dumps(reference("lucid_trained").about["facts"]))
    arguments = ["convert", str(source), "--out", str(folder / "models" / "discs")]
    assert CliRunner().invoke(cli.app, arguments, catch_exceptions=False).exit_code == 0
    return folder / "models"


@pytest.fixture(scope="module")
def api(models: Path, redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    ours = {"DIFUSO_MODELS_DIR": str(models), "DIFUSO_SLOTS": "4"}
    with (
        running(tmp_path_factory.mktemp("run"), ENVIRONMENT | ours) as difuso,
        httpx.Client(base_url=difuso.url, timeout=120) as client,
    ):
        yield client


RUNS: dict[str, dict[str, Any]] = {
    "ddim": {"steps": TRAINED_STEPS},  # sampler and spacing are the model's own
    "ddpm": {"sampler": "ddpm", "steps": 100},
}


@pytest.mark.parametrize("run", RUNS)
def test_the_pictures_are_those_of_its_own_sampler(api: httpx.Client, run: str) -> None:
    theirs = (reference("lucid_trained").outputs[run][:, 0].clamp(0, 1) * 255).round().numpy()
    assert theirs.std() > 30  # discs on black
    for seed, expected in zip(TRAINED_SEEDS, theirs, strict=True):
        answer = api.post("/generate", params={"seed": seed, **RUNS[run]}).raise_for_status()
        picture = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=np.int64)
        assert np.abs(picture - expected).max() <= 1


def test_the_model_is_shown_with_its_facts(api: httpx.Client) -> None:
    (model,) = api.get("/models").json()["models"]
    facts = ("name", "state", "image_size", "channels", "num_train_timesteps", "prediction", "variance")
    assert tuple(model[fact] for fact in facts) == ("discs", "ready", 16, 1, 100, "v", "fixed_small")
    own = {"sampler": "ddim", "steps": 50, "spacing": "trailing", "eta": 0.0, "guidance_scale": 1.0}
    assert model["defaults"] == own
