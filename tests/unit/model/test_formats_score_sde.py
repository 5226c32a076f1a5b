"""Networks of score_sde_pytorch are here what they are there, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from difuso.model import CheckpointError, sample
from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.parsing import parse
from difuso.model.formats.facts import RELEASED, ScoreSDEFacts
from difuso.model.formats.naming import Weights
from difuso.model.formats.score_sde import network_config, read_unet
from difuso.model.formats.state_dicts import layout_of, read_pickle
from difuso.model.networks.build import unfilled
from tests.foreign import noise, reference
from tests.rounding import assert_rounded_alike, layers
from tests.sigma import IMAGE, SCALES, SCORE_SDE, SEEDS, TIMES

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

CONTINUOUS = [name for name in SCORE_SDE if SCORE_SDE[name]["continuous"]]


def facts_of(name: str, **changes: Any) -> ScoreSDEFacts:
    return parse(ScoreSDEFacts, {**reference(name).about["facts"], **changes})


def weights_of(name: str) -> dict[str, Tensor]:
    """A state dict without the list of sigmas, which no network uses."""
    return {key: tensor for key, tensor in reference(name).weights.items() if key != "sigmas"}


def converted(name: str) -> Checkpoint:
    config, network = read_unet(weights_of(name), facts_of(name))
    return Checkpoint(name, config, network, config.schedule.build(), "")


def timesteps(facts: ScoreSDEFacts, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Our timesteps of their times: evenly spaced from the first to 1, or from 0 to 1."""
    if facts.sde == "vpsde":
        return facts.num_scales * times - 1
    return (facts.num_scales - 1) * times


@torch.no_grad()
@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_denoised_image_is_that_of_the_reference(name: str) -> None:
    """By their own score function and Tweedie's formula; that of a VE SDE sees images in 0..1."""
    checkpoint, theirs = converted(name), reference(name).outputs["denoised"]
    x, t = noise("x", 2, 3, IMAGE, IMAGE), torch.from_numpy(timesteps(facts_of(name), np.array(TIMES)))
    sigmas = torch.from_numpy(checkpoint.schedule.sigma_at(t.numpy())).float().view(-1, 1, 1, 1)
    noisy = (1 + sigmas**2).sqrt() * x
    mine = noisy - sigmas * checkpoint.denoiser(x, t.float())
    assert_rounded_alike(mine, theirs, steps=layers(checkpoint.denoiser), largest=float(noisy.abs().max()))


@torch.no_grad()
def test_an_ancestral_run_is_that_of_the_reference() -> None:
    """A network of listed timesteps, through all of them; sampler and variance are the model's own."""
    checkpoint, read = converted("score_sde_discrete"), reference("score_sde_discrete")
    out = checkpoint.denoiser(noise("x", 2, 3, IMAGE, IMAGE), torch.tensor([3.0, 30.0]))
    assert_rounded_alike(out, read.outputs["out"], steps=layers(checkpoint.denoiser))
    config = checkpoint.config
    plan = config.plan(checkpoint.schedule)
    assert plan.timesteps == tuple(reversed(range(SCALES)))
    mine = sample(plan, checkpoint.denoiser, shape=config.shape, seeds=SEEDS)
    theirs = read.outputs["ancestral"]
    assert_rounded_alike(mine, theirs, steps=len(plan) * layers(checkpoint.denoiser))


def refusal(weights: Weights, facts: ScoreSDEFacts) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_unet(weights, facts)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("score_sde_ncsnpp", {"continuous": False}, "the listed sigmas of a discrete VE SDE"),
        ("score_sde_ddpmpp", {"sde": "vesde"}, "but the weights are of the other one"),
        ("score_sde_ddpmpp", {"progressive_input": "residual"}, "lacks the tensor all_modules.5.Conv2d_0.weight"),
    ],
    ids=str,
)
def test_facts_that_contradict_the_weights_are_refused(name: str, changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(weights_of(name), facts_of(name, **changes))


def test_networks_of_other_blocks_are_refused() -> None:
    weights = {key: tensor for key, tensor in weights_of("score_sde_ddpmpp").items() if "Conv_2" not in key}
    assert "only ncsnpp with resblock_type biggan can be read" in refusal(weights, facts_of("score_sde_ddpmpp"))


def test_the_layouts_show_in_the_names() -> None:
    assert {layout_of(reference(name).weights) for name in SCORE_SDE} == {"score_sde"}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["score_sde_ddpmpp", "score_sde_ncsnpp"])
def test_of_a_trainer_s_file_the_averaged_weights_are_taken(tmp_path: Path, name: str, prefix: str) -> None:
    """They have no names, and are in the order of the parameters that its network trains."""
    read = reference(name)
    trained = [key for key in read.about["parameters"] if key not in read.about["fixed"]]
    content: dict[str, Any] = {
        "optimizer": {"state": {}, "param_groups": [{"lr": 2e-4}]},
        "model": {f"{prefix}{key}": 0 * tensor for key, tensor in read.weights.items()},
        "ema": {"decay": 0.9999, "num_updates": 9, "shadow_params": [read.weights[key] for key in trained]},
        "step": 9,
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    found = read_pickle(tmp_path / "checkpoint.pth")
    assert found.keys() == read.weights.keys()
    assert all(torch.equal(found[key], read.weights[key]) for key in trained)
    content["ema"]["shadow_params"].pop()
    torch.save(content, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match="must be as many"):
        read_pickle(tmp_path / "short.pth")


# Counted in the original code, for the arguments of its config files.
PARAMETERS = {
    "ddpmpp-cifar10": 61_804_419,
    "ddpmpp-cifar10-deep-continuous": 106_632_579,
    "ncsnpp-cifar10-vp-continuous": 62_693_251,
    "ncsnpp-cifar10-continuous": 62_758_915,
    "ncsnpp-cifar10-deep-continuous": 107_587_075,
    "ncsnpp-church-continuous": 65_574_549,
    "ncsnpp-1024-continuous": 105_785_896,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_released_networks_have_the_numbers_of_parameters_of_the_reference(name: str) -> None:
    facts = RELEASED[name]
    assert isinstance(facts, ScoreSDEFacts)
    fourier = facts.sde == "vesde"
    weights = {f"all_modules.{3 if fourier else 2}.weight": torch.zeros(facts.nf, 3, 3, 3)}
    weights |= {"all_modules.0.W": torch.zeros(facts.nf)} if fourier else {}
    network = unfilled(network_config(weights, facts))
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
