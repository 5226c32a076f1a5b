"""diffusers' UNet2DModel and our U-Net are one network: by config, by weights, by what they compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from difuso.model.formats.diffusers.network import network_from_diffusers, network_to_diffusers
from difuso.model.formats.diffusers.pipeline import weights_from_diffusers, weights_to_diffusers
from difuso.model.networks.configs import UNetConfig
from tests.foreign import noise
from tests.rounding import assert_rounded_alike, layers
from tests.unet2d import NATIVE, TINY, assert_same_forward, awake, our_network, their_network

diffusers = pytest.importorskip("diffusers")
pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

HO: dict[str, Any] = {  # what the released networks of Ho et al. have in common
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
CIFAR: dict[str, Any] = {  # google/ddpm-cifar10-32
    **HO,
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
CAT: dict[str, Any] = {  # google/ddpm-cat-256; celebahq, church and bedroom differ in their schedulers only
    **HO,
    "sample_size": 256,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}
RESNET: dict[str, Any] = {  # as consistency models and ADM have it
    **TINY,
    "block_out_channels": [8, 16, 24],
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 4,
    "num_class_embeds": 5,
}


def our_config(content: Mapping[str, Any]) -> UNetConfig:
    fields: dict[str, Any] = network_from_diffusers({"_class_name": "UNet2DModel", **content})
    return UNetConfig(**{**fields, "channel_mult": tuple(fields["channel_mult"])})


@pytest.mark.parametrize(
    ("content", "total"),
    [
        pytest.param(CIFAR, 35_746_307, marks=pytest.mark.slow),
        pytest.param(CAT, 113_673_219, marks=pytest.mark.slow),
        (TINY, None),
        ({**TINY, "downsample_padding": 0, "out_channels": 6, "attention_head_dim": 8}, None),
        ({**TINY, "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4, "num_class_embeds": 2}, None),
        ({**TINY, "block_out_channels": [12, 20], "freq_shift": 1, "act_fn": "swish"}, None),
        (RESNET, None),
        ({**RESNET, "resnet_time_scale_shift": "default", "attn_norm_num_groups": None, "dropout": 0.1}, None),
    ],
    ids=["cifar10-32", "cat-256", "tiny", "asymmetric", "scale_shift", "odd widths", "resnet", "resnet, add"],
)
def test_the_network_is_the_same(content: dict[str, Any], total: int | None) -> None:
    """Every attention level is active at 32x32; the totals are those of section 5.1."""
    theirs, config = their_network(content), our_config(content)
    ours = our_network(config, weights_from_diffusers(config, theirs.state_dict()))
    if total is not None:
        assert sum(p.numel() for p in ours.parameters()) == total
    assert_same_forward(ours, theirs, min(32, content["sample_size"]), content.get("num_class_embeds"))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"resample": "resblock", "attention_levels": (), "time_injection": "scale_shift", "time_order": "cos_sin"},
        {"resample": "resblock", "attention_levels": (0, 1, 2), "out_channels": 6, "num_res_blocks": 2, "groups": 8},
        {"asymmetric_downsample": True, "heads": 1, "head_channels": 64, "freq_shift": 1, "norm_eps": 1e-6},
        {"num_classes": 3, "null_class": False, "in_channels": 1, "dropout": 0.1, "channel_mult": (1, 1.5)},
    ],
    ids=["plain", "no attention", "attention everywhere", "as Ho", "grey, classes"],
)
def test_native_to_diffusers_and_back(change: dict[str, Any]) -> None:
    """Config and weights; diffusers takes both, and computes the same."""
    config = dataclasses.replace(NATIVE, **change)
    content, ours = network_to_diffusers(config), awake(config)
    foreign = weights_to_diffusers(config, ours.state_dict())
    assert our_config(content) == config
    again = weights_from_diffusers(config, foreign)
    assert again.keys() == ours.state_dict().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.state_dict().items())
    theirs = diffusers.UNet2DModel(**{name: value for name, value in content.items() if name != "_class_name"})
    theirs.load_state_dict(foreign)
    x, t = noise("images", 2, config.in_channels, 16, 16), torch.tensor([3, 977])
    labels = None if config.num_classes is None else torch.tensor([0, 2])
    with torch.inference_mode():
        expected = theirs.eval()(x, t, class_labels=labels).sample
        assert_rounded_alike(ours(x, t, labels=labels), expected, steps=layers(ours))


def test_equal_heads_and_no_class_have_another_name_there() -> None:
    """The same number of heads at the one width with attention; the row of "no class" as a class."""
    config = dataclasses.replace(NATIVE, attention_levels=(), heads=2, num_classes=3)
    content = network_to_diffusers(config)
    assert (content["attention_head_dim"], content["num_class_embeds"]) == (12, 4)
    state = awake(config).state_dict()
    again = our_config(content)
    assert (again.heads, again.head_channels, again.num_classes, again.null_class) == (None, 12, 4, False)
    x, t, labels = noise("images", 2, 3, 16, 16), torch.tensor([3, 977]), torch.tensor([1, 3])
    with torch.inference_mode():
        assert torch.equal(
            our_network(again, state)(x, t, labels=labels), our_network(config, state)(x, t, labels=labels)
        )
