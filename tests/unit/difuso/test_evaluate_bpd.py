"""`difuso evaluate bpd`: the figures that it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.evaluation.bits_per_dimension import summary, variational_bound
from difuso.model import ModelConfig, NonFiniteSample, load_checkpoint, save_checkpoint
from difuso.model.conditions import Choice
from difuso.model.folders.config import SamplerDefaults, ScheduleConfig
from difuso.model.likelihood import Vlb
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import UNetConfig
from difuso.model.plans.spacing import visit_levels
from tests.small_models import awake

pytestmark = pytest.mark.usefixtures("one_thread")

PARTS = ("prior", "terms", "decoder")


def evaluate(models_dir: Path, out: Path, *arguments: object) -> tuple[str, dict[str, Any]]:
    """What the command prints, and its bpd.json."""
    command = ["evaluate", "bpd", "--models-dir", models_dir, "--out", out, *arguments]
    result = CliRunner().invoke(cli.app, list(map(str, command)), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads((out / "bpd.json").read_text(encoding="utf-8"))
    return result.output, content


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three pictures of noise, 16x16."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_the_bound_is_printed_and_written_in_parts(models_dir: Path, pictures: Path, tmp_path: Path) -> None:
    printed, content = evaluate(models_dir, tmp_path, "--data", pictures, "--steps", 4, "--seed", 7)
    assert "tiny: 3 images, a respaced chain of 4 steps (its bound differs)" in printed
    assert printed.splitlines()[-2:] == [str(tmp_path / "bpd.json"), str(tmp_path / "bpd.png")]
    assert (content["model"], content["images"], content["seed"]) == ("tiny", 3, 7)
    assert (content["steps"], content["num_train_timesteps"]) == (4, 1000)
    assert content["version"] == load_checkpoint(models_dir / "tiny").version
    assert content["timesteps"] == [0, 333, 666, 999]

    bits = content["bits_per_dim"]
    total = bits["vlb"]["mean"]
    assert f"vlb {total:.5f}".split() in [line.split()[:2] for line in printed.splitlines()]
    assert total == pytest.approx(sum(bits[part]["mean"] for part in PARTS))
    assert total == pytest.approx(np.mean(content["vlb_of_each_image"]))
    assert bits["vlb"]["standard_error"] == pytest.approx(np.std(content["vlb_of_each_image"], ddof=1) / math.sqrt(3))
    each = content["bits_per_dim_of_each_timestep"]
    assert each[0] == pytest.approx(bits["decoder"]["mean"])
    assert sum(each[1:]) == pytest.approx(bits["terms"]["mean"])
    assert content["l_simple"]["mean"] == pytest.approx(np.mean(content["mse_of_each_timestep"]))

    with Image.open(tmp_path / "bpd.png") as plot:
        assert plot.format == "PNG"
        assert len(np.unique(np.asarray(plot.convert("RGB")).reshape(-1, 3), axis=0)) > 10


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plot, which takes longer than the figures."""
    monkeypatch.setattr("difuso.commands.evaluate_bpd.plot_vlb", lambda result, path: None)


@pytest.mark.usefixtures("unplotted")
def test_a_model_may_be_there_in_an_older_version_only(models_dir: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / "models" / "tiny@old")
    _, content = evaluate(tmp_path / "models", tmp_path, "--data", pictures, "--steps", 4)
    assert content["model"] == "tiny"


def test_an_image_s_bound_is_the_same_alone_and_among_others(models_dir: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ("--data", pictures, "--steps", 4)
    _, together = evaluate(models_dir, tmp_path / "a", *arguments)
    _, first = evaluate(models_dir, tmp_path / "c", *arguments, "--images", 1)
    assert first["vlb_of_each_image"] == pytest.approx(together["vlb_of_each_image"][:1], rel=1e-4)
    assert first["bits_per_dim"]["vlb"]["standard_error"] is None


TINY = UNetConfig(channels=8, channel_mult=(1,), attention_levels=(), head_channels=8, groups=4)


@pytest.mark.usefixtures("unplotted")
def test_without_steps_the_chain_is_the_whole_one(pictures: Path, tmp_path: Path) -> None:
    config = ModelConfig(
        network=TINY, image_size=16, schedule=ScheduleConfig(num_train_timesteps=10), defaults=SamplerDefaults(steps=10)
    )
    save_checkpoint(tmp_path / "models" / "short", config, build_network(config.network))
    printed, content = evaluate(tmp_path / "models", tmp_path / "out", "--data", pictures)
    assert "short: 3 images, all 10 steps" in printed
    assert content["timesteps"] == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nobody"], "model: Input should be one of tiny"),
        (["--steps", "1001"], "tiny: steps must lie between 1 and 1000, got 1001"),
        (["--data", "/nowhere"], "there are no images below /nowhere"),
    ],
)
def test_mistakes_are_explained(models_dir: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(models_dir, tmp_path, *arguments)


@pytest.mark.usefixtures("unplotted")
def test_pictures_are_never_enlarged(models_dir: Path, pictures: Path, tmp_path: Path) -> None:
    """A smooth enlargement is easier to predict than any picture of that size; a reduction is what training does."""
    Image.new("RGB", (40, 15)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=r"small.png is 15x40, smaller than the model's images of 16x16"):
        evaluate(models_dir, tmp_path / "out", "--data", tmp_path, "--steps", 1)
    (tmp_path / "small.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"small.png cannot be read \(UnidentifiedImageError\)"):
        evaluate(models_dir, tmp_path / "out", "--data", tmp_path, "--steps", 1)
    Image.new("RGB", (40, 32)).save(tmp_path / "small.png")
    assert evaluate(models_dir, tmp_path / "out", "--data", tmp_path, "--steps", 1)[1]["images"] == 1


@pytest.mark.usefixtures("unplotted")
def test_models_that_the_data_do_not_fit_are_refused(pictures: Path, tmp_path: Path) -> None:
    grey = ModelConfig(network=replace(TINY, in_channels=1, out_channels=1), image_size=16, channels=1)
    labelled = ModelConfig(network=replace(TINY, num_classes=2, null_class=False), image_size=16, classes=("a", "b"))
    for name, config in {"grey": grey, "labelled": labelled}.items():
        save_checkpoint(tmp_path / name, config, build_network(config.network))
    with pytest.raises(UserError, match="this model needs conditions"):
        evaluate(tmp_path, tmp_path / "out", "--model", "labelled", "--data", pictures)
    with pytest.raises(UserError, match="this model's images are not: give a folder"):
        evaluate(tmp_path, tmp_path / "out", "--model", "grey")
    assert evaluate(tmp_path, tmp_path / "out", "--model", "grey", "--data", pictures, "--steps", 2)[1]["images"] == 3


@pytest.mark.usefixtures("unplotted")
def test_a_model_with_conditions_gets_none(tmp_path: Path) -> None:
    network = replace(TINY, vector_size=3, num_classes=2)
    conditions = {"hair": Choice(("short", "long"), null=True)}
    config = ModelConfig(network=network, image_size=16, classes=("a", "b"), conditions=conditions)
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    save_checkpoint(tmp_path / "models" / "conditional", config, awake(build_network(network)))
    found = evaluate(tmp_path / "models", tmp_path / "out", "--data", tmp_path, "--steps", 2)[1]
    model = load_checkpoint(tmp_path / "models" / "conditional")
    chosen: dict[str, Any] = {"batch_size": 1, "seed": 0, "device": torch.device("cpu"), "report": lambda share: None}
    levels = visit_levels(model.schedule, "linspace", 2)
    bound = variational_bound(model, np.zeros((1, 16, 16, 3), np.uint8), levels, **chosen)
    assert found["vlb_of_each_image"] == pytest.approx(bound.total.tolist())
    needed = replace(config, conditions={"hair": Choice(("short", "long"))})
    save_checkpoint(tmp_path / "models" / "conditional", needed, model.network)
    with pytest.raises(UserError, match="this model needs conditions"):
        evaluate(tmp_path / "models", tmp_path / "out", "--data", tmp_path, "--steps", 2)


def test_a_network_that_answers_nan_has_no_bound(models_dir: Path) -> None:
    checkpoint = load_checkpoint(models_dir / "tiny")
    with torch.no_grad():
        next(iter(checkpoint.network.parameters())).fill_(math.nan)
    with pytest.raises(NonFiniteSample, match="NaN or infinity"):
        variational_bound(
            checkpoint,
            np.zeros((1, 16, 16, 3), np.uint8),
            visit_levels(checkpoint.schedule, "linspace", 2),
            batch_size=1,
            seed=0,
            device=torch.device("cpu"),
            report=lambda share: None,
        )


def test_the_standard_error_is_that_of_the_mean_over_images() -> None:
    bits = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    nothing = torch.zeros(3, dtype=torch.float64)
    result = Vlb((0,), prior=nothing, terms=nothing[:, None][:, :0], decoder=bits, mse=bits[:, None])
    content = summary(result)
    assert content["bits_per_dim"]["vlb"] == {"mean": 3.0, "standard_error": pytest.approx(math.sqrt(7 / 3))}
    assert content["bits_per_dim"]["terms"] == {"mean": 0.0, "standard_error": 0.0}
