"""The command line: what it says, and that a user's mistake is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError

runner = CliRunner()


def difuso(*arguments: str) -> str:
    """What a command prints; its UserError is raised here as in `main`."""
    result = runner.invoke(cli.app, list(arguments), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_help_names_every_command() -> None:
    for command in ("serve", "api", "worker", "sample", "models", "convert", "train"):
        assert command in difuso("--help")


def test_models_lists_what_can_be_served(models_dir: Path) -> None:
    assert "tiny   16x16x3  1000" in difuso("models", "--models-dir", str(models_dir), "--verify")


def test_models_says_why_a_model_is_refused(models_dir: Path, tmp_path: Path) -> None:
    for source in (models_dir / "tiny").iterdir():
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / source.name).write_bytes(source.read_bytes())
    weights = tmp_path / "bad" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    result = runner.invoke(cli.app, ["models", "--models-dir", str(tmp_path), "--verify"], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "refused: model.safetensors does not match its SHA-256 sum" in result.output


def test_samples_are_named_by_seed_and_the_same_alone(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    out = tmp_path / "pictures"
    printed = difuso("sample", "--out", str(out), "-n", "3", "--steps", "4", "--seed", "100")
    assert printed.splitlines() == [str(out / f"tiny-{seed}.png") for seed in (100, 101, 102)]
    together = (out / "tiny-102.png").read_bytes()
    difuso("sample", "--out", str(out), "--steps", "4", "--seed", "102")
    assert (out / "tiny-102.png").read_bytes() == together


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--steps", "0"], "--steps: Input should be greater than or equal to 1"),
        (["sample", "--steps", "1001"], "steps: Should be at most 1000"),
        (["sample", "--model", "nobody"], "model: Should be one of tiny"),
        (["train", "nobody"], "there is no recipe 'nobody'"),
        (["models", "--models-dir", "/nowhere"], "no models in /nowhere"),
    ],
)
def test_mistakes_are_explained(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    with pytest.raises(UserError, match=message):
        difuso(*arguments)


def test_a_mistake_is_one_line_and_exit_code_1() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "difuso", "train", "nobody"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("difuso: there is no recipe")
    assert len(done.stderr.splitlines()) == 1
