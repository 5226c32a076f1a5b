"""The command line: what it says, and that a user's mistake is one line."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.jobs.settings import SHIPPED

if TYPE_CHECKING:
    from difuso.app.settings import ApiSettings
    from difuso.worker.settings import WorkerSettings

runner = CliRunner()


def difuso(*arguments: str) -> str:
    """What a command prints; its UserError is raised here as in `main`."""
    result = runner.invoke(cli.app, list(arguments), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_help_names_every_command_in_groups() -> None:
    shown = re.split(r"╭─ (\w+) ─+╮", difuso("--help"))
    groups = {
        "Serving": "serve api worker trainer key fleet usage",
        "Images": "sample interpolate denoise restore upscale inspect verify",
        "Models": "models convert pull push traffic init train evaluate",
    }
    for title, commands in groups.items():
        box = shown[shown.index(title) + 1]
        assert set(commands.split()) == set(re.findall(r"│ ([a-z]+) ", box)), title


def test_a_key_is_shown_and_its_line_can_go_into_a_file() -> None:
    result = runner.invoke(cli.app, ["key", "alice"])
    assert re.fullmatch(r"alice [0-9a-f]{64}\n", result.stdout)
    assert "difuso_" in result.stderr
    with pytest.raises(UserError, match="NAME must be"):
        difuso("key", "two words")


def test_a_dry_run_of_a_recipe_prints_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFUSO_DEVICE", "cpu")
    np.savez("images.npz", np.zeros((2, 8, 8, 3), np.uint8))
    changes = ("image_size=8", "batch_size=2", "network.head_channels=8", "data.source=npz", "data.path=images.npz")
    settings = [word for change in changes for word in ("--set", change)]
    lines = difuso("train", "smoke", "--dry-run", *settings).splitlines()
    assert [line.split()[0] for line in lines] == ["network", "batch", "memory", "step", "the"]
    assert re.fullmatch(r"network  [\d,]+ parameters, .* GFLOP an image and call, .*, in (float32|bf16)", lines[0])
    assert "2 x 3 x 8 x 8" in lines[1]
    assert [path.name for path in tmp_path.iterdir()] == ["images.npz"]
    with pytest.raises(UserError, match="2 images do not fill one batch of 4"):
        difuso("train", "smoke", "--dry-run", *settings, "--set", "batch_size=4")


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


def test_a_folder_s_name_is_shown_and_not_obeyed(models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / "[red]\x1b]0;title\x07")
    result = runner.invoke(cli.app, ["models", "--models-dir", str(tmp_path)], env={"COLUMNS": "200"})
    assert r"[red]\x1b]0;title\x07" in result.output
    assert "\x1b]0" not in result.output


def test_samples_are_named_by_seed_and_the_same_alone(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    out = tmp_path / "pictures"
    printed = difuso("sample", "--out", str(out), "-n", "3", "--steps", "4", "--seed", "100")
    assert printed.splitlines() == [str(out / f"tiny-{seed}.png") for seed in (100, 101, 102)]
    together = (out / "tiny-102.png").read_bytes()
    printed = difuso("sample", "--out", str(out), "--steps", "4", "--seed", "102")
    assert printed.splitlines() == [str(out / "tiny-102.png")], "other images of the name would not be overwritten"
    assert (out / "tiny-102.png").read_bytes() == together


def test_what_a_model_has_never_seen_is_drawn_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from difuso.model.checkpoint import save_checkpoint
    from difuso.model.conditions import Choice, vector_size
    from difuso.model.networks.configs import UNetConfig
    from tests.small_models import NETWORK, checkpoint_of

    heads = {name: Choice(("none", "red"), null=True) for name in ("hair", "hat")}
    network = UNetConfig(vector_size=vector_size(heads), **NETWORK)
    made = checkpoint_of(network, conditions=heads, never=({"hair": ("red",), "hat": ("red",)},))
    save_checkpoint(tmp_path / "models" / "heads", made.config, made.network)
    asked = ("--condition", "hair:red", "--condition", "hat:red", "--steps", "1", "--seed", "1")
    drawn = difuso("sample", "--models-dir", str(tmp_path / "models"), "--out", str(tmp_path / "pictures"), *asked)
    assert drawn.splitlines()[-1].endswith("heads-1.png")
    assert "heads has never seen hair red with hat red: the images may show something else" in caplog.messages


def test_the_help_of_a_command_is_that_of_the_api() -> None:
    shown = difuso("interpolate", "--help")
    for option in ("--lambda", "--noise", "--guidance-scale", "shared|independent|rescaled", "default: (0.5)", "-o"):
        assert option in shown
    assert "-n " not in shown
    assert "inpaint|superres|colorize|deblur" in difuso("restore", "--help")
    for command in ("sample", "interpolate"):
        assert "without a server, or on --server URL." in difuso(command, "--help")


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    """Files: two pictures, one that is missing, a mask."""
    Image.radial_gradient("L").resize((16, 16)).convert("RGB").save(tmp_path / "a.png")
    Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(tmp_path / "b.png")
    mask = Image.new("L", (16, 16))
    mask.paste(255, (4, 4, 12, 9))
    mask.save(tmp_path / "mask.png")
    return {name: str(tmp_path / f"{name}.png") for name in ("a", "b", "absent", "mask")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["interpolate", "{a}", "{absent}"], "absent.png: No such file or directory"),
        (["interpolate", "{a}", "{b}", "--seed", "1", "--seed", "2"], "image_. should be omitted with two seeds"),
        (["interpolate", "{a}"], "image_b is missing; name image_a and image_b, or give two seeds"),
        (
            ["interpolate", "{a}", "{b}", "--mode", "ddim", "--sampler", "ddpm"],
            "sampler: The run should draw no noise on its way",
        ),
        (["denoise", "{a}", "--sigma", "1", "--t", "5"], "t: Input cannot be combined with sigma"),
        (["denoise", __file__], "test_cli.py: Unsupported image format. Send a PNG or JPEG"),
        (["restore", "inpaint", "{a}"], "--mask is missing"),
        (["restore", "deblur", "{a}", "--blur", "uniform"], "width: Input should be an odd number"),
    ],
)
def test_mistakes_with_pictures_are_explained(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, pictures: dict[str, str], arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    with pytest.raises(UserError, match=message):
        difuso(*(argument.format(**pictures) for argument in arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--steps", "0"], "--steps: Input should be greater than or equal to 1"),
        (["sample", "--spacing", "foo"], r"^--spacing: cannot be 'foo' \(choice of the timesteps: linspace, "),
        (["sample", "--out", f"{__file__}/x.npz"], "test_cli.py is not a folder"),
        (
            ["sample", "--server", "http://127.0.0.1:9"],
            r"^no server answers at http://127.0.0.1:9 \(.*check the address",
        ),
        (["sample", "--server", "localhost:9", "-o", "all.npz"], r"^no server answers at localhost:9 \(.*protocol"),
        (["train", "nobody"], "there is no recipe 'nobody'"),
        (["train", "nothing.zip"], "^there is no file nothing.zip$"),
        (["train", "nothing.zip", "--name", "pets"], "^--name goes with --server"),
        (["train", "smoke", "--minutes", "5"], "^--minutes and --table go with pictures"),
        (["models", "--models-dir", "/nowhere"], "^no model in /nowhere"),
        (["models", "--models-dir", "odd://bucket"], "^DIFUSO_MODELS_DIR is odd://bucket, which cannot be used"),
        (["models", "--models-dir", "memory://nothing"], "no model in memory://nothing: nothing lies there"),
        (["pull", "org/name", "--models-dir", "s3://bucket"], "^s3://bucket is no folder: name one with --models-dir"),
        (["push", "checkpoints/faces64", "models"], "^models is no address"),
        (["push", "checkpoints/faces64", "odd://bucket"], "^odd://bucket cannot be used"),
        (["push", "docs", "memory://nothing"], "^docs: config.json is missing"),
        (["push", "checkpoints/faces64", "memory://nothing", "--as", "A"], "^'A' is no name of a model"),
    ],
)
def test_mistakes_are_explained(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    with pytest.raises(UserError, match=message):
        difuso(*arguments)


def test_every_command_that_draws_serves_or_lists_takes_a_folder_of_models() -> None:
    group = typer.main.get_command(cli.app)
    commands: dict[str, Any] = {**group.commands, **group.commands["evaluate"].commands}  # type: ignore[attr-defined]
    without = {
        name for name, each in commands.items() if all("--models-dir" not in param.opts for param in each.params)
    }
    assert without == {"evaluate", "fleet", "init", "inspect", "key", "push", "train", "trainer", "usage"}


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_service_gets_the_folder_of_its_option(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    seen: list[str | Path] = []

    def serve(settings: ApiSettings | WorkerSettings, _: int | None = None) -> int:
        seen.append(settings.models_dir)
        return 0

    monkeypatch.setattr("difuso.app.main.serve", serve)
    monkeypatch.setattr("difuso.worker.main.run", serve)
    monkeypatch.setattr("difuso.cli.log_lines", lambda *_, **__: None)
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(tmp_path))
    difuso(command, "--models-dir", str(models_dir))
    difuso(command)
    assert seen == [models_dir, tmp_path]


def test_a_worker_gets_the_models_of_its_option(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[frozenset[str]] = []

    def run(settings: WorkerSettings) -> int:
        seen.append(settings.models)
        return 0

    monkeypatch.setattr("difuso.worker.main.run", run)
    monkeypatch.setattr("difuso.cli.log_lines", lambda *_, **__: None)
    monkeypatch.setenv("DIFUSO_STORE_URL", str(tmp_path))
    monkeypatch.setenv("DIFUSO_MODELS", "b")
    difuso("worker", "--models-dir", str(models_dir), "--models", "a,b")
    difuso("worker", "--models-dir", str(models_dir))
    assert seen == [{"a", "b"}, {"b"}]


def test_a_wheels_user_stands_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFUSO_MODELS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    printed = difuso("models")
    assert f"models in {SHIPPED}" in printed
    assert "faces64  64x64x3" in printed
    (tmp_path / "checkpoints").mkdir()
    assert f"(and none in {tmp_path / 'checkpoints'})" in difuso("models")


def test_messages_name_the_place_and_what_is_wrong_with_it(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^no model in {tmp_path / 'nowhere'}. Name another folder with --models-dir"):
        difuso("sample", "--models-dir", "nowhere")
    with pytest.raises(UserError, match=f"Name {models_dir}, because this folder is a model itself, with --models-dir"):
        difuso("models", "--models-dir", str(models_dir / "tiny"))
    shutil.copytree(models_dir / "tiny", tmp_path / "Tiny")
    with pytest.raises(
        UserError, match=f"^no model in {tmp_path}; Tiny: the name of a model has at most 64 characters"
    ):
        difuso("sample", "--models-dir", ".")


@pytest.mark.parametrize("command", [["sample"], ["sample", "--out", "all.npz"], ["upscale", __file__]])
def test_commands_without_a_server_say_that_there_are_no_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=f"^no model in {tmp_path}"):
        difuso(*command)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DIFUSO_HOST", "0.0.0.0", "^DIFUSO_HOST: without API keys everybody"),
        ("DIFUSO_CORS_ORIGINS", "foo", "^DIFUSO_CORS_ORIGINS: must be origins without a path"),
        ("DIFUSO_STORE_URL", "foo://x", "^DIFUSO_STORE_URL is foo://x, which cannot be used: Protocol not known: foo"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=message):
        difuso("api")


def test_a_port_of_metrics_that_is_taken_is_named(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        monkeypatch.setenv("DIFUSO_METRICS_PORT", str(taken.getsockname()[1]))
        with pytest.raises(UserError, match=r"^cannot listen on .*: set DIFUSO_METRICS_PORT to another one$"):
            difuso("worker", "--models-dir", str(models_dir))


def test_a_missing_device_is_named(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: dict[str, str]
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("DIFUSO_DEVICE", "cuda:99")
    for command in (["worker"], ["sample", "-o", str(tmp_path)], ["sample", "-o", str(tmp_path / "all.npz")]):
        with pytest.raises(UserError, match=r"^DIFUSO_DEVICE is cuda:99, and torch .* finds no such device"):
            difuso(*command)


def test_a_mistake_is_one_line_and_exit_code_1() -> None:
    # This one loads no torch.
    command = [sys.executable, "-P", "-m", "difuso", "sample", "--server", "http://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("difuso: no server answers at http://127.0.0.1:1")
    assert len(done.stderr.splitlines()) == 1
