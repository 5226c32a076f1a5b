"""Networks and whole runs of lucidrains' denoising-diffusion-pytorch are here what they are there, or are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import CheckpointError, ModelConfig, sample
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.formats.facts import LucidFacts
from difuso.model.formats.layouts import layout_of
from difuso.model.formats.lucid import read_unet
from difuso.model.formats.naming import Weights
from difuso.model.networks.configs import LucidUNetConfig
from difuso.model.networks.lucid_unet import LucidUNet
from tests.foreign import noise, reference
from tests.lucid import DDIM_STEPS, ETA, OBJECTIVES, SCHEDULES, SEEDS, TIMESTEPS
from tests.rounding import assert_rounded_alike, layers

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

T = torch.tensor([3, 750])
UNETS = ["lucid", "lucid_odd", "lucid_fourier", "lucid_grouped"]
GIVEN: dict[str, Any] = {"objective": "pred_x0", "beta_schedule": "sigmoid", "timesteps": 1000}
FACTS = LucidFacts(image_size=8)
KINDS = [(objective, schedule) for objective in OBJECTIVES for schedule in SCHEDULES]
# Each objective and each schedule once; all pairs are slow.
PAIRS = [each if i % 4 == 0 else pytest.param(*each, marks=pytest.mark.slow) for i, each in enumerate(KINDS)]


def diffusion(key: str, unet: str = "lucid") -> dict[str, Tensor]:
    """The state dict of one of the GaussianDiffusions that the runs come from."""
    arrays = {name.removeprefix(f"{key}/"): array for name, array in runs().items() if name.startswith(f"{key}/")}
    buffers = {name: array for name, array in arrays.items() if array.ndim == 1 and name != "min_snr"}
    return {**buffers, **{f"model.{name}": tensor for name, tensor in reference(unet).weights.items()}}


def runs() -> dict[str, Tensor]:
    return reference("lucid_runs").outputs


def drawn(config: ModelConfig, network: LucidUNet, **choices: Any) -> Tensor:
    """Images of a run, in 0..1 as theirs."""
    schedule = config.schedule.build()
    plan = config.plan(schedule, **choices)
    return (sample(plan, network, shape=config.shape, seeds=SEEDS) + 1) / 2


def refusal(weights: Weights, facts: LucidFacts = FACTS) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_unet(weights, facts)
    return str(caught.value)


@pytest.mark.parametrize("name", UNETS)
def test_the_output_is_that_of_the_reference(name: str) -> None:
    read = reference(name)
    config, network = read_unet(read.weights, LucidFacts(**read.about["facts"], **GIVEN))
    out = read.outputs["out"]
    mine = network(noise("x", 2, config.channels, 16, 16), T)
    assert_rounded_alike(mine, out, steps=layers(network))


def test_the_config_shows_what_the_weights_and_the_facts_say() -> None:
    read = reference("lucid_odd")
    config, network = read_unet(read.weights, LucidFacts(**read.about["facts"], **GIVEN))
    assert config.network == LucidUNetConfig(
        in_channels=1,
        out_channels=2,
        channels=12,
        init_channels=20,
        channel_mult=(1, 2, 3),
        attention_levels=(0, 2),
        attention_heads=(2, 3, 1),
        attention_head_channels=(8, 16, 4),
        theta=500,
        dropout=0.1,
    )
    assert (config.variance, config.prediction, config.image_size, config.channels) == ("learned_range", "eps", 16, 1)
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training
    assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize(("objective", "schedule"), PAIRS)
def test_ancestral_runs_are_those_of_the_reference(objective: str, schedule: str) -> None:
    """The file alone says which objective and which betas they were."""
    config, network = read_unet(diffusion(f"{objective}-{schedule}"), FACTS)
    assert (config.prediction, config.variance) == (OBJECTIVES[objective], "fixed_small")
    theirs = runs()[f"{objective}-{schedule}/ddpm"]
    assert theirs.std() > 0.01
    mine = drawn(config, network, sampler="ddpm", steps=TIMESTEPS)
    assert_rounded_alike(mine, theirs, steps=TIMESTEPS * layers(network))


@pytest.mark.parametrize("eta", [0.0, ETA])
@pytest.mark.parametrize(("objective", "schedule"), PAIRS)
def test_ddim_runs_are_those_of_the_reference(objective: str, schedule: str, eta: float) -> None:
    """With no more than the number of steps: sampler and spacing are the model's own."""
    config, network = read_unet(diffusion(f"{objective}-{schedule}"), FACTS)
    theirs = runs()[f"{objective}-{schedule}/ddim-{eta}"]
    assert theirs.std() > 0.01
    mine = drawn(config, network, steps=DDIM_STEPS, eta=eta)
    assert_rounded_alike(mine, theirs, steps=DDIM_STEPS * layers(network))


def test_a_learned_variance_is_that_of_the_reference_and_its_network_predicts_noise() -> None:
    """The default objective of LearnedGaussianDiffusion says v, but it trains and samples noise."""
    config, network = read_unet(
        diffusion("learned", "lucid_odd"), dataclasses.replace(FACTS, sinusoidal_pos_emb_theta=500)
    )
    assert (config.prediction, config.variance) == ("eps", "learned_range")
    mine = drawn(config, network, sampler="ddpm", steps=TIMESTEPS)
    assert_rounded_alike(mine, runs()["learned/ddpm"], steps=TIMESTEPS * layers(network))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_unet_alone_gets_the_schedule_of_the_facts(schedule: Any) -> None:
    facts = LucidFacts(8, objective="pred_v", beta_schedule=schedule, timesteps=TIMESTEPS)
    config, _ = read_unet(reference("lucid").weights, facts)
    theirs = runs()[f"pred_v-{schedule}/alphas_cumprod"].double().numpy()
    assert np.allclose(config.schedule.build().alphas_cumprod, theirs, rtol=1e-5, atol=0)
    assert config.prediction == "v"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"objective": "pred_x0"}, "the facts give objective pred_x0, but the weights have pred_v"),
        ({"timesteps": 1000}, f"the facts give timesteps 1000, but the weights have {TIMESTEPS}"),
        ({"beta_schedule": "cosine"}, "the facts give beta_schedule cosine, but the weights have another"),
        ({"auto_normalize": False}, "auto_normalize false, but the images of difuso lie between -1 and 1"),
    ],
    ids=str,
)
def test_facts_that_contradict_the_file_are_refused(given: dict[str, Any], reason: str) -> None:
    assert reason in refusal(diffusion("pred_v-sigmoid"), dataclasses.replace(FACTS, **given))


@pytest.mark.parametrize("missing", GIVEN)
def test_a_unet_alone_asks_for_facts(missing: str) -> None:
    given = {name: fact for name, fact in GIVEN.items() if name != missing}
    message = refusal(reference("lucid").weights, LucidFacts(8, **given))
    assert "the facts must give objective, beta_schedule and timesteps, for example" in message


def changed(**tensors: Tensor | None) -> Callable[[], dict[str, Tensor]]:
    """A GaussianDiffusion with other tensors, or without those that are None; dots are written __."""
    renamed = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return lambda: {
        name: tensor for name, tensor in {**diffusion("pred_v-sigmoid"), **renamed}.items() if tensor is not None
    }


def before_1_9() -> dict[str, Tensor]:
    return {name: tensor for name, tensor in diffusion("pred_v-sigmoid").items() if "mem_kv" not in name}


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (before_1_9, "denoising-diffusion-pytorch before 1.9"),
        (changed(model__init_conv__weight=torch.zeros(16, 6, 7, 7)), "this network was trained with self_condition"),
        (changed(model__null_classes_emb=torch.zeros(16)), "the class-conditional Unet"),
        (changed(betas=None), "a continuous-time diffusion, which has no timesteps"),
        (changed(loss_weight=torch.full((TIMESTEPS,), 0.5)), "loss_weight is not that of an objective"),
        (changed(model__mid_attn__mem_kv=None), "lacks the tensor mid_attn.mem_kv"),
        (changed(model__time_mlp__1__weight=torch.zeros(2, 2)), "the facts contradict the weights"),
    ],
)
def test_weights_that_cannot_be_served_are_refused(weights: Callable[[], dict[str, Tensor]], reason: str) -> None:
    assert reason in refusal(weights())


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (["net.init_conv.weight", "net.time_mlp.0.weights"], "ElucidatedDiffusion, which has no timesteps"),
    ],
)
def test_relatives_are_named(weights: list[str], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        layout_of(weights)


@pytest.mark.parametrize("name", ["lucid_odd", "lucid_grouped"])
def test_an_image_does_not_depend_on_the_size_of_its_batch(name: str) -> None:
    """Bit for bit, at sizes to which a worker pads."""
    read = reference(name)
    _, network = read_unet(read.weights, LucidFacts(**read.about["facts"], **GIVEN))
    x, t = noise("batch", 8, network.config.in_channels, 16, 16), torch.arange(0, 800, 100)
    whole = network(x, t)
    for size in (2, 4):
        assert torch.equal(network(x[:size], t[:size]), whole[:size])
