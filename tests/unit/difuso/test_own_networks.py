"""`difuso convert` turns a .pt of a network of one's own into a model: from any trainer's file, by a whole config."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from difuso import cli
from difuso.converting.own_networks import renamed
from difuso.errors import UserError
from difuso.model import load_checkpoint
from tests.strangers import PACKAGE, on_the_path, write_package

NETWORK = {"type": f"{PACKAGE}.nets:Denoiser", "args": {"width": 8}, "size_multiple": 2}
CONFIG = {"format": 1, "network": NETWORK, "image_size": 8, "prediction": "v", "schedule": {}}


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with on_the_path(write_package(tmp_path_factory.mktemp("lab"))):
        yield


@pytest.fixture
def nets() -> Any:
    return __import__(f"{PACKAGE}.nets").nets


def convert(folder: Path, content: Any, config: dict[str, Any] = CONFIG) -> tuple[Path, str]:
    """The folder of the new model, and what is printed."""
    torch.save(content, folder / "mine.pt")
    (folder / "mine.json").write_text(json.dumps(config))
    arguments = ["convert", str(folder / "mine.pt"), "--facts", str(folder / "mine.json"), "--models-dir", str(folder)]
    result = CliRunner().invoke(cli.app, arguments, env={"DIFUSO_NETWORKS": PACKAGE})
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return folder / "mine", result.output


def of_trainer(network: nn.Module, average: nn.Module) -> dict[str, Any]:
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    return {"step": 3, "net": network.state_dict(), "ema": average.state_dict(), "opt": optimizer}


def of_diffusion(network: nn.Module, average: nn.Module) -> dict[str, Any]:
    """A module that holds the network beside tensors of its own, and averages of it in the same dictionary."""
    betas = {"betas": torch.linspace(0, 1, 10)}
    online = {f"online_model.model.{name}": value for name, value in network.state_dict().items()}
    averaged = {f"ema_model.model.{name}": value for name, value in average.state_dict().items()}
    return {"step": 3, "data": {"initted": torch.tensor(True), **betas, **online, **averaged}}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (lambda network, average: average.state_dict(), "all of the file"),
        (lambda network, average: nn.DataParallel(average).state_dict(), "all of the file"),
        (of_trainer, "ema"),
        (of_diffusion, "data"),
        (lambda network, average: [network.state_dict(), {"lr": 1}, {"average": average.state_dict()}], "2.average"),
    ],
)
def test_the_averaged_weights_of_any_trainer_become_a_model(
    tmp_path: Path, nets: Any, content: Callable[..., Any], place: str
) -> None:
    """The numbers do not change, and whole numbers stay whole."""
    network, average = (nets.Denoiser(width=8) for _ in range(2))
    folder, said = convert(tmp_path, content(network, average))
    assert f"the weights are {place}\n" in said
    state = load_checkpoint(folder, networks={PACKAGE}).network.state_dict()
    assert {name: value.dtype for name, value in state.items() if name == "made"} == {"made": torch.int64}
    for name, value in average.state_dict().items():
        assert torch.equal(state[name], value)


@pytest.mark.parametrize(
    ("weights", "wanted", "found"),
    [
        ({"a.w": 1, "b": 2}, ["a.w", "b"], {"a.w": 1, "b": 2}),
        ({"a.w": 1, "b": 2}, ["net.a.w", "net.b"], {"net.a.w": 1, "net.b": 2}),
        ({"m.a.w": 1, "m.b": 2, "c": 3}, ["a.w", "b"], {"a.w": 1, "b": 2}),
        ({"a.w": 1, "b": 2, "c": 3}, ["a.w", "b"], None),
        ({"m.a.w": 1, "m.b": 2, "m.c": 3}, ["a.w", "b"], None),
        ({"a.w": 1}, ["a.w", "b"], None),
        ({"xa.w": 1, "xb": 2}, ["a.w", "b"], None),
        ({"a.w": 1, "ema.a.w": 2}, ["a.w"], {"a.w": 2}),
        ({"one.a.w": 1, "ema.a.w": 2}, ["a.w"], {"a.w": 2}),
    ],
)
def test_names_may_differ_by_a_prefix_only(
    weights: dict[str, Any], wanted: list[str], found: dict[str, Any] | None
) -> None:
    assert renamed(weights, wanted) == found


@pytest.mark.parametrize(
    ("content", "config", "reason"),
    [
        ({"w": torch.zeros(1)}, CONFIG, f"{PACKAGE}.nets:Denoiser needs weights named made, first.weight"),
        ({"w": torch.zeros(1)}, CONFIG, "and the file has w"),
        ({"step": 3}, CONFIG, "the file holds no tensors by name"),
        ({}, {**CONFIG, "image_size": 7}, "mine.json: image_size must be a multiple of 2"),
        ({}, {**CONFIG, "weaker": NETWORK}, "leave out weaker and classifier, and add them with options"),
        ({}, {**CONFIG, "network": {**NETWORK, "type": "elsewhere:Net"}}, "elsewhere:Net is code of another package"),
    ],
)
def test_what_cannot_be_converted_says_why(tmp_path: Path, content: Any, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as error:
        convert(tmp_path, content, config)
    assert reason in str(error.value)
    assert not (tmp_path / "mine").exists()


def test_weights_of_other_sizes_are_refused(tmp_path: Path, nets: Any) -> None:
    with pytest.raises(UserError, match=r"the file: the tensor first\.weight has shape \(16, 3, 3, 3\)"):
        convert(tmp_path, nets.Denoiser(width=16).state_dict())


def test_a_network_that_cannot_be_called_leaves_no_folder(tmp_path: Path, nets: Any) -> None:
    broken = {**CONFIG, "network": {**NETWORK, "type": f"{PACKAGE}.nets:FailsAtCalls"}}
    with pytest.raises(UserError, match=r"FailsAtCalls cannot be called: its code raised ValueError"):
        convert(tmp_path, nets.Denoiser(width=8).state_dict(), broken)
    assert not (tmp_path / "mine").exists()
