"""`difuso tune`: the plan that it writes can be asked for, and the folder stays whole."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from jobs.catalog import read_catalog
from model import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    """A models folder with a `tiny` of its own."""
    shutil.copytree(models_dir / "tiny", tmp_path / "models" / "tiny")
    return tmp_path / "models"


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A folder of pictures of noise, 16x16."""
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    for i in range(32):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "real" / f"{i}.png")
    return tmp_path / "real"


def run(folder: Path, real: Path, *arguments: object) -> str:
    command = ["tune", "tiny", "--models-dir", folder, "--reference", real, "--images", 32, "--rounds", 24, *arguments]
    result = CliRunner().invoke(cli.app, list(map(str, command)), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_plan_is_written_and_can_be_asked_for(folder: Path, real: Path, tmp_path: Path) -> None:
    weights = load_checkpoint(folder / "tiny").sha256
    printed = run(folder, real, "--calls", 2, "--name", "two")
    assert "best known spacing:" in printed
    tuned = load_checkpoint(folder / "tiny")
    plan = tuned.config.plans["two"]
    assert (plan.sampler, plan.steps, plan.spacing[:3]) == ("ddim", 2, "at:")
    assert "few" in tuned.config.plans  # what was there stays
    assert tuned.sha256 == weights
    sums = (folder / "tiny" / "SHA256SUMS").read_text(encoding="utf-8")
    assert hashlib.sha256((folder / "tiny" / "config.json").read_bytes()).hexdigest() in sums
    assert read_catalog(folder).models["tiny"].parameters > 0
    draw = ["sample", "--plan", "two", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, draw, env={"DIFUSO_MODELS_DIR": str(folder)}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").glob("*.png"))) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--sampler", "heun"), "heun makes two calls at a level and cannot be tuned"),
        (("--sampler", "plms"), "'plms' is not known: choose one of"),
        (("--name", "a/b"), "--name must be up to 64 small letters"),
    ],
)
def test_what_cannot_be_tuned(folder: Path, real: Path, arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        run(folder, real, *arguments)


def test_a_folder_of_another_format(folder: Path, real: Path) -> None:
    out = folder / "theirs"
    command = ["convert", str(folder / "tiny"), "--to", "diffusers", "--out", str(out)]
    assert CliRunner().invoke(cli.app, command, catch_exceptions=False).exit_code == 0
    shutil.rmtree(folder / "tiny")
    out.rename(folder / "tiny")
    with pytest.raises(UserError, match="tiny is in another format"):
        run(folder, real)
