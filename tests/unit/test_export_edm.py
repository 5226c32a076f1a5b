"""Networks of EDM reach `difuso convert` as tensors and facts, which a script on its own writes."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.export_edm import export
from difuso.model import load_checkpoint
from tests.foreign import reference

pytestmark = pytest.mark.usefixtures("one_thread")


def convert(source: Path, *arguments: str | Path) -> None:
    result = CliRunner().invoke(cli.app, ["convert", str(source), *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture
def persistent(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module whose classes record their arguments, as those of EDM do."""
    module = ModuleType("persistent")

    class UNet(nn.Module):
        def __init__(self, img_resolution: int, model_channels: int = 16, **block: Any) -> None:
            super().__init__()
            self.layer = nn.Linear(img_resolution, model_channels)

    class Precond(nn.Module):
        def __init__(self, img_resolution: int, sigma_max: float = float("inf"), **unet: Any) -> None:
            super().__init__()
            self.unet = module.UNet(img_resolution, **unet)

    for kind in (UNet, Precond):

        def init(self: Any, *args: Any, kind: type[nn.Module] = kind, **kwargs: Any) -> None:
            kind.__init__(self, *args, **kwargs)
            self.init_args, self.init_kwargs = args, kwargs

        kind.__module__, kind.__qualname__ = "persistent.source", kind.__name__
        decorated = type(kind.__name__, (kind,), {"__init__": init, "__module__": "persistent"})
        setattr(module, kind.__name__, decorated)
    monkeypatch.setitem(sys.modules, "persistent", module)
    return module


def test_an_export_has_the_tensors_and_all_arguments_of_the_network(tmp_path: Path, persistent: ModuleType) -> None:
    network = persistent.Precond(8, dropout=0.1)
    source = tmp_path / "snapshot.pkl"
    source.write_bytes(pickle.dumps({"ema": network, "encoder": Path("of images")}))
    tensors, facts = export(source, tmp_path / "edm2-img64")
    saved = torch.load(tensors, weights_only=True)
    assert saved.keys() == network.state_dict().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in network.state_dict().items())
    assert json.loads(facts.read_text()) == {
        "precond": "Precond",
        "model": "UNet",
        "encoder": type(Path()).__name__,
        "img_resolution": 8,
        "model_channels": 16,
        "sigma_max": None,
        "dropout": 0.1,
    }


def test_an_export_of_another_pickle_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "other.pkl"
    source.write_bytes(pickle.dumps({"weights": 3}))
    with pytest.raises(ValueError, match=r"other\.pkl does not hold a network of EDM or EDM2, but a dict"):
        export(source, tmp_path / "out")


def test_nothing_that_serves_can_read_a_pickle() -> None:
    """The script for EDM's files is on its own."""
    folders = ("app", "jobs", "worker", "model", "training", "evaluation", "difuso")
    sources = [path for folder in folders for path in Path(folder).rglob("*.py")]
    assert len(sources) > 100
    importing = {path for path in sources if re.search(r"^\s*(import|from) pickle\b", path.read_text(), re.M)}
    naming = {path for path in sources if re.search(r"^\s*(from|import) .*export_edm", path.read_text(), re.M)}
    assert (importing, naming) == ({Path("difuso/export_edm.py")}, set())


@pytest.mark.parametrize(
    "name",
    [
        "edm2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("edm_ddpmpp_classes", "edm_adm", "score_sde_ncsnpp")),
    ],
)
def test_exported_networks_are_converted_with_what_the_script_wrote(tmp_path: Path, name: str) -> None:
    read = reference(name)
    source = tmp_path / "network.pt"
    torch.save(read.weights, source)
    source.with_suffix(".json").write_text(json.dumps(read.about["facts"]))
    convert(source, "--out", tmp_path / "model")
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.config.preconditioning is not None
    assert checkpoint.denoiser is not checkpoint.network
    with pytest.raises(UserError, match=r"diffusers (folder )?has no"):
        convert(source, "--to", "diffusers", "--out", tmp_path / "diffusers")


def test_a_network_of_edm_without_its_facts_asks_for_them(tmp_path: Path) -> None:
    torch.save(reference("edm_vp").weights, tmp_path / "edm.pt")
    with pytest.raises(UserError) as caught:
        convert(tmp_path / "edm.pt", "--out", tmp_path / "model")
    assert "the weights of edm.pt do not say precond, model, img_resolution" in str(caught.value)
    assert f"write it into {tmp_path / 'edm.json'}" in str(caught.value)
