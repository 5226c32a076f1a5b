"""`difuso pull` as its users meet it: a hub over HTTP, and the environment of huggingface_hub."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from difuso.converting.pulling import pull
from difuso.errors import UserError
from difuso.jobs.catalog import read_catalog
from difuso.model import load_checkpoint
from difuso.model.formats.diffusers.pipeline import write_diffusers
from tests.forking import Command
from tests.hub import COMMIT, Hub, running_hub
from tests.serving import ENVIRONMENT

pytest.importorskip("huggingface_hub")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(180)]

REPOSITORY = "Some-Lab/DDPM_Tiny-16"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
NEEDED = {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "README.md", WEIGHTS}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def folder(hub: Hub, models_dir: Path, tmp_path: Path) -> Path:
    """The repository, with more in it than is needed."""
    folder = tmp_path / "repository"
    tiny = load_checkpoint(models_dir / "tiny")
    write_diffusers(folder, tiny.config, tiny.network)
    (folder / "SHA256SUMS").unlink()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    torch.save(load_file(folder / WEIGHTS), (folder / WEIGHTS).with_suffix(".bin"))
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    (folder / "samples").mkdir()
    (folder / "samples" / "notes.json").write_text("{}")
    hub.repositories[REPOSITORY] = folder
    return folder


class Pulling:
    """Runs the command with a models folder and a cache of its own."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self._folder = folder
        self.models = folder / "models"
        self.environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("HF_")} | {
            "DIFUSO_MODELS_DIR": str(self.models),
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": "hf_of-the-test",
        }

    def __call__(self, *arguments: str, **environment: str) -> str:
        """What the command prints."""
        done = self._run(arguments, environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, *arguments: str, **environment: str) -> str:
        """The refusal; nothing is left in the models folder."""
        before = self._entries()
        done = self._run(arguments, environment)
        assert done.returncode == 1, done.stdout
        assert self._entries() == before
        return done.stderr

    def _entries(self) -> set[str]:
        return set(os.listdir(self.models)) if self.models.is_dir() else set()

    def _run(self, arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        log, output = self._folder / "said", self._folder / "printed"
        ours = self.environment | environment
        command = Command(["pull", *arguments], environment=ours, folder=self._folder, log=log, output=output)
        status = command.wait(120)
        return subprocess.CompletedProcess(command.args, status, output.read_text(), log.read_text())


@pytest.fixture
def pulling(tmp_path: Path, hub: Hub) -> Pulling:
    return Pulling(tmp_path, hub)


@pytest.mark.slow
def test_a_model_of_the_hub_becomes_one_of_ours(pulling: Pulling, hub: Hub, folder: Path, models_dir: Path) -> None:
    """Only the needed files are downloaded, and with the token."""
    printed = pulling(REPOSITORY)
    out = pulling.models / "ddpm_tiny-16"
    pulled, tiny = load_checkpoint(out), load_checkpoint(models_dir / "tiny")
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(pulled.network.state_dict().values(), tiny.network.state_dict().values(), strict=True)
    )
    assert read_catalog(pulling.models).models["ddpm_tiny-16"].version == pulled.version
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {*NEEDED, "SHA256SUMS"}
    assert f"from {REPOSITORY} at {COMMIT[:12]}" in printed
    assert "16x16 pixels; it can be loaded and called" in printed
    assert sorted(hub.downloads) == sorted((REPOSITORY, file) for file in NEEDED)
    assert hub.tokens == {"Bearer hf_of-the-test"}


def test_a_latent_model_is_refused_before_its_weights_are_downloaded(pulling: Pulling, hub: Hub, folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": ["diffusers", "AutoencoderKL"]}))
    assert "its pipeline has a vae besides unet and scheduler" in pulling.refusal(REPOSITORY)
    assert (REPOSITORY, WEIGHTS) not in hub.downloads


def test_a_model_whose_weights_are_a_pickle_is_refused(pulling: Pulling, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    reason = f"has no {WEIGHTS}. If its weights are a pickle (.bin), download the folder with `hf download"
    assert reason in pulling.refusal(REPOSITORY)


@pytest.mark.slow
def test_what_the_hub_does_not_give_is_explained(pulling: Pulling, hub: Hub, folder: Path) -> None:
    assert "difuso: some-lab/nothing cannot be downloaded: " in pulling.refusal("some-lab/nothing")
    assert "cannot be downloaded" in pulling.refusal(REPOSITORY, "--revision", "v2")
    hub.gated = {REPOSITORY}
    assert "gated" in pulling.refusal(REPOSITORY)
    assert "cannot be downloaded" in pulling.refusal(REPOSITORY, HF_ENDPOINT="http://127.0.0.1:9")


def test_names_are_checked_first(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists already: delete it, or give another name with --as"):
        pull("a/There", tmp_path)
    with pytest.raises(UserError, match=r"'\.\./out' is not a name for a model"):
        pull("a/b", tmp_path, name="../out")
