"""`difuso evaluate quality` and `losses`: from the command line to tables and plots."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.commands import evaluate_quality
from difuso.errors import UserError
from difuso.evaluation import features
from difuso.evaluation.image_sets import from_path
from difuso.model import ModelConfig, load_checkpoint, save_checkpoint
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import UNetConfig
from difuso.model.shape import Shape
from difuso.training.data.images import ImageArray
from tests.colours import Colours
from tests.inception import untrained_weights
from tests.small_models import conditional_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = Path(__file__).parents[3] / "checkpoints"


def difuso(*arguments: object) -> str:
    """What a command prints; its UserError is raised here as in `main`."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rows(out: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((out / "quality.json").read_text(encoding="utf-8"))["rows"]
    return content


def noise(seed: int, count: int, size: int = 16) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def save(folder: Path, images: ImageArray) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_quality, "EfficientNetLite0", lambda device: Colours())


@pytest.mark.slow
def test_the_shipped_model_beside_drawn_faces_with_more_and_fewer_steps(tmp_path: Path) -> None:
    """From checkpoint to table; more steps are better, and other real faces are better still."""
    pytest.importorskip("resvg_py")
    pytest.importorskip("timm", reason="EfficientNet-Lite0 comes with the extra evaluate")
    arguments = ("--models-dir", SHIPPED, "--images", 24, "--references", 50, "--half", "reporting", "--out", tmp_path)
    printed = difuso("evaluate", "quality", "ddim:1", "ddim:2", *arguments)
    files = [tmp_path / name for name in ("quality.md", "quality.json")]
    assert printed.splitlines()[-2:] == list(map(str, files))
    assert "Features of EfficientNet-Lite0-TF, against faces64, reporting half" in printed
    assert "None of these is an FID" in printed

    few, more, faces = rows(tmp_path)
    assert few["name"].startswith("faces64 ddim exponential 1")
    assert (few["drawn"]["steps"], more["drawn"]["steps"], faces["drawn"]) == (1, 2, None)
    assert few["drawn"]["version"] == load_checkpoint(SHIPPED / "faces64").version
    assert (faces["name"], faces["images"], faces["reference"]) == ("other real images", 24, "faces64, reporting half")
    for key in ("FD-EfficientNet-Lite0-TF", "sFD-EfficientNet-Lite0-TF", "KID-EfficientNet-Lite0-TF"):
        values = [row["figures"][key]["value"] for row in (few, more, faces)]
        assert values == sorted(values, reverse=True)
        assert "25 of the reference" in few["figures"][key]["protocol"]
    assert faces["figures"]["Precision-EfficientNet-Lite0-TF"]["value"] > 0.5
    assert f"| {more['name']} |     24 |" in (tmp_path / "quality.md").read_text(encoding="utf-8")


def test_a_model_that_needs_an_image_cannot_be_measured(tmp_path: Path) -> None:
    needed = conditional_checkpoint()
    save_checkpoint(tmp_path / "conditional", needed.config, needed.network)
    with pytest.raises(UserError, match="ddim:2: conditional needs files, layout, and cannot be measured"):
        difuso("evaluate", "quality", "ddim:2", "--models-dir", tmp_path, "--out", tmp_path / "out")


@pytest.mark.usefixtures("quick")
def test_a_number_format_is_measured_beside_the_model_s_own(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = save(tmp_path / "real", noise(0, 30))
    arguments = ("--models-dir", models_dir, "--reference", real, "--images", 25, "--out", tmp_path / "out")
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("DIFUSO_PRECISION", precision)
        difuso("evaluate", "quality", "ddim:2", "--seed", 7, *arguments)
        (row,) = rows(tmp_path / "out")
        assert row["name"].endswith(", bfloat16") == (precision == "bfloat16")
    old, new = (from_path(file).load().astype(int) for file in (tmp_path / "out" / "pictures").glob("tiny-*/ddim-*"))
    assert 0 < np.abs(old - new).max() < 64


@pytest.mark.usefixtures("quick")
def test_the_pictures_are_those_of_the_server_and_are_drawn_once(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = save(tmp_path / "real", noise(0, 30))
    arguments = ("--models-dir", models_dir, "--reference", real, "--images", 25, "--out", tmp_path / "out")
    difuso("evaluate", "quality", "ddpm:2:trailing", "--seed", 7, *arguments)
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    sampling = ("-n", 25, "--seed", 7, "--sampler", "ddpm", "--steps", 2, "--spacing", "trailing")
    difuso("sample", *sampling, "--out", tmp_path / "sampled")
    (file,) = (tmp_path / "out" / "pictures").glob("tiny-*/ddpm-trailing-2-*.npz")
    for i, drawn in enumerate(from_path(file).load()):
        assert np.array_equal(drawn, np.asarray(Image.open(tmp_path / "sampled" / f"tiny-{7 + i}.png")))

    before = rows(tmp_path / "out")
    monkeypatch.setattr("difuso.worker.engine.local.run_job", None)
    difuso("evaluate", "quality", "ddpm:2:trailing", "--seed", 7, *arguments)
    assert rows(tmp_path / "out") == before


@pytest.mark.usefixtures("quick")
def test_files_and_folders_are_scored_side_by_side_without_a_model(tmp_path: Path) -> None:
    """As they are: nothing is resized."""
    np.savez(tmp_path / "published_[a].npz", noise(0, 30, size=20))
    folder = save(tmp_path / "ours", noise(1, 26, size=20))
    np.savez(tmp_path / "reference.npz", noise(2, 40, size=20))
    printed = difuso(
        "evaluate", "quality", tmp_path / "published_[a].npz", folder, "--reference", tmp_path / "reference.npz",
        "--models-dir", tmp_path, "--out", tmp_path / "out",
    )  # fmt: skip
    assert [(row["name"], row["images"], row["reference"]) for row in rows(tmp_path / "out")] == [
        ("published_[a]", 30, "reference"),
        ("ours", 26, "reference"),
    ]
    above, _, _, _, first, second, _, *notes, _ = printed.splitlines()[:-2]
    assert above == "**Features of Colours, against reference**"
    assert (first.split()[1:4], second.split()[1:4]) == ([r"published\_\[a\]", "|", "30"], ["ours", "|", "26"])
    assert all(note.startswith("- ") for note in notes), "each in one line, for grep"


@pytest.mark.usefixtures("quick")
def test_without_a_source_the_model_runs_as_it_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the reference is brought to its size."""
    grey = UNetConfig(
        channels=8, channel_mult=(1,), attention_levels=(), head_channels=8, groups=4, in_channels=1, out_channels=1
    )
    config = ModelConfig(network=grey, image_size=8, channels=1)
    save_checkpoint(tmp_path / "models" / "grey", config, build_network(config.network))
    monkeypatch.setattr(evaluate_quality, "DRAWN", 24)
    real = save(tmp_path / "real", noise(0, 30, size=20))
    difuso("evaluate", "quality", "--reference", real, "--models-dir", tmp_path / "models", "--out", tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert (row["name"], row["images"]) == ("grey ddim leading 50", 24)


@pytest.mark.slow
def test_with_the_weights_of_inception_the_figures_are_called_fid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file of weights, here drawn at random, to the table."""
    weights = tmp_path / "weights.pth"
    torch.save(untrained_weights(), weights)
    monkeypatch.setattr(features, "SHA256", hashlib.sha256(weights.read_bytes()).hexdigest())
    folders = [save(tmp_path / name, noise(seed, 24)) for seed, name in enumerate(("ours", "real"))]
    printed = difuso(
        "evaluate", "quality", folders[0], "--reference", folders[1], "--inception-weights", weights,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert {"FID", "FID∞", "sFID", "IS", "Precision"} < set(rows(tmp_path / "out")[0]["figures"])
    assert "Features of Inception, against real" in printed
    assert "FID: 2048 pooled features, 24 images, 24 of the reference." in printed
    assert "sFID: 2023 spatial features" in printed
    assert "None of these is an FID" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch:5"], "sampler: Input should be"),
        (["ddim:1001"], "ddim:1001: steps must lie between 1 and 1000, got 1001"),
        (["ddim:5:nowhere"], "spacing: "),
        (["ddim:5", "--guidance-scale", "2"], "guidance_scale: Input should be 1: tiny has no classes"),
        (["ddim:5", "--guidance-low", "2"], "guidance_low: Input should be omitted: tiny has no classes"),
        (["/nowhere"], "/nowhere is neither a folder nor an .npz file"),
        (["ddim:5", "--reference", "/nowhere"], "no images below /nowhere"),
        (["ddim:5", "--model", "nobody"], "model: Input should be one of tiny"),
        (["ddim:5", "--inception-weights", "/nowhere"], "/nowhere: No such file or directory; give the weights"),
    ],
)
def test_mistakes_are_explained_before_anything_is_drawn(
    models_dir: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        difuso(
            "evaluate", "quality", "--models-dir", models_dir, "--images", 24, "--references", 24, "--out", tmp_path,
            *arguments,
        )  # fmt: skip
    assert not list(tmp_path.rglob("*.np*"))


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_settings_are_chosen_on_one_half_and_reported_on_the_other(models_dir: Path, tmp_path: Path) -> None:
    """Other seeds, other real images, and as many real images in the table, by one option."""
    real = save(tmp_path / "real", noise(0, 60))
    seeds, values = {}, {}
    for half in ("choosing", "reporting"):
        out = tmp_path / half
        printed = difuso(
            "evaluate", "quality", "ddim:2", "--half", half, "--models-dir", models_dir, "--reference", real,
            "--images", 25, "--out", out,
        )  # fmt: skip
        assert f"{half} half" in printed
        content = json.loads((out / "quality.json").read_text(encoding="utf-8"))
        drawn, others = content["rows"]
        assert (content["half"], others["name"], others["images"]) == (half, "other real images", 25)
        assert "25 images, 30 of the reference" in drawn["figures"]["KID-Colours"]["protocol"]
        seeds[half] = drawn["drawn"]["seed"]
        values[half] = others["figures"]["KID-Colours"]["value"]
    assert seeds == {"choosing": 3_000_000, "reporting": 1_000_000}
    assert values["choosing"] != values["reporting"]
    assert max(map(abs, values.values())) < 0.5 * drawn["figures"]["KID-Colours"]["value"]


def test_a_recipe_stands_for_its_images(tmp_path: Path) -> None:
    """In their splits, where they have some; in random order; and without those that cannot be read."""
    from difuso.evaluation.real_images import real_images

    for prefix, first in {"train": 0, "t10k": 100}.items():
        grey = np.arange(first, first + 20, dtype=np.uint8).repeat(64)
        header = np.array([0x803, 20, 8, 8], ">u4")
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(header.tobytes() + grey.tobytes())
        header = np.array([0x801, 20], ">u4")
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(header.tobytes() + bytes(20))
    recipe = tmp_path / "mine.toml"
    text = '[data]\nsource = "{}"\npath = "{}"\n[network]\nchannels = 16\nin_channels = 1\nout_channels = 1\n'
    text = 'name = "mine"\nimage_size = 8\nchannels = 1\n' + text + "groups = 8\nhead_channels = 16\n"
    recipe.write_text(text.format("idx", tmp_path), encoding="utf-8")

    held_out = real_images(str(recipe), 6, shape=Shape.of(8, 1))
    training = real_images(str(recipe), None, shape=Shape.of(8, 1), split="train")
    assert held_out.shape == (6, 8, 8, 1)
    shades = held_out[:, 4, 4, 0].tolist()
    assert sorted(training[:, 4, 4, 0]) == list(range(20))
    assert set(shades) < set(range(100, 120))
    assert shades != sorted(shades)

    save(tmp_path / "pictures", noise(0, 3))
    (tmp_path / "pictures" / "broken.png").write_bytes(b"")
    recipe.write_text(text.format("folder", tmp_path / "pictures"), encoding="utf-8")
    assert real_images(str(recipe), None, shape=Shape.of(16, 3)).shape == (3, 16, 16, 3)
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 8, 8, 1)
    np.savez(tmp_path / "deep.npz", arr_0=deep)
    recipe.write_text(text.format("npz", tmp_path / "deep.npz").replace("[network]", "bits = 16\n[network]"))
    found = real_images(str(recipe), None, shape=Shape.of(8, 1))
    assert found.dtype == np.uint8
    assert sorted(found.flatten().tolist()) == sorted((deep // 257).flatten().tolist())
