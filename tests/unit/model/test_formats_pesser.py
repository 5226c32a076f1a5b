"""Networks of Ho et al. in PyTorch compute here what they compute there; layouts are distinguished."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from difuso.model import CheckpointError
from difuso.model.formats import pesser
from difuso.model.formats.facts import RELEASED, HoFacts
from difuso.model.formats.naming import Weights
from difuso.model.formats.state_dicts import layout_of
from difuso.model.networks.configs import UNetConfig
from difuso.model.networks.unet import UNet
from tests.foreign import noise, reference
from tests.rounding import assert_rounded_alike, layers

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

HO = HoFacts(16, "fixed_large")


def test_ho_is_pesser() -> None:
    read = reference("pesser")
    config, network = pesser.read_unet(read.weights, HoFacts(**read.about["facts"]))
    out = read.outputs["out"]
    mine = network(noise("x", 2, 3, 16, 16), torch.tensor([3, 750]))
    assert_rounded_alike(mine, out, steps=layers(network))
    assert (config.image_size, config.variance, config.prediction, config.classes) == (16, "fixed_large", "eps", None)
    betas = config.schedule.build().betas
    assert (len(betas), betas[0], betas[-1]) == (1000, 1e-4, 0.02)


# As published; google/ddpm-cifar10-32 and -celebahq-256 of diffusers are the same networks.
@pytest.mark.parametrize(
    ("name", "parameters", "mult", "attention"),
    [
        ("ho-cifar10", 35_746_307, (1, 2, 2, 2), (1,)),
        ("ddim-celeba64", 78_700_803, (1, 2, 2, 2, 4), (2,)),
        ("ho-lsun", 113_673_219, (1, 1, 2, 2, 4, 4), (4,)),
        ("ho-celebahq", 113_673_219, (1, 1, 2, 2, 4, 4), (4,)),
    ],
)
def test_released_networks_are_recognised_by_their_shapes(
    name: str, parameters: int, mult: tuple[int, ...], attention: tuple[int, ...]
) -> None:
    built = UNetConfig(
        channel_mult=mult,
        attention_levels=attention,
        heads=1,
        freq_shift=1,
        norm_eps=1e-6,
        asymmetric_downsample=True,
    )
    with torch.device("meta"):
        weights = foreign(UNet(built))
    facts = RELEASED[name]
    assert isinstance(facts, HoFacts)
    config, network = pesser.read_unet(weights, facts)
    assert config.network == built
    assert sum(p.numel() for p in network.parameters()) == parameters


def foreign(network: UNet) -> dict[str, Tensor]:
    """A state dict under pesser's names, with q, k and v apart."""
    modules = pesser.module_names(network.config)
    weights: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        there = modules[module]
        parts = [(there, tensor)]
        if there.endswith(".qkv"):
            parts = [(f"{there[:-3]}{part}", third) for part, third in zip("qkv", tensor.chunk(3), strict=True)]
        weights |= {f"{part}.{leaf}": third for part, third in parts}
    return weights


def without(*names: str) -> Callable[[Weights], dict[str, Tensor]]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if name not in names}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without("mid.attn_1.k.bias"), "lacks the tensor mid.attn_1.k.bias"),
        (lambda w: {**w, "up.0.upsample.conv.bias": torch.zeros(32)}, "does not belong to this network: up.0.upsample"),
        (
            lambda w: {**w, "down.0.block.0.conv2.weight": torch.zeros(48, 48, 3, 3)},
            "are not a network of this layout: groups 32 does not",
        ),
        (lambda w: {**w, "conv_in.weight": torch.zeros(32)}, "conv_in.weight must have more than 1 dimensions"),
    ],
    ids=["attention", "left over", "width", "dimensions"],
)
def test_ho_weights_that_do_not_fit_are_refused(damage: Callable[[Weights], dict[str, Tensor]], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        pesser.read_unet(damage(reference("pesser").weights), HO)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("guided_new_order", "guided"),
        ("improved", "guided"),
        ("guided_classifier", "guided_classifier"),
        ("pesser", "ho"),
    ],
)
def test_the_layout_shows_in_the_names(name: str, layout: str) -> None:
    assert layout_of(reference(name).weights) == layout


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["time_embedding.linear_1.weight"], "of a diffusers network: name its folder"),
        (["time_mlp.0.weight"], "of a difuso network: name its folder"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "of a latent diffusion model"),
        (["c", "b", "a", "d"], r"unknown layout \(a, b, c, \.\.\.\); known are"),
    ],
)
def test_other_weights_are_named(names: list[str], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        layout_of(names)
