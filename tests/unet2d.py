"""One network, as diffusers' UNet2DModel and as ours, with random weights. diffusers is imported on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from difuso.model.networks.configs import UNetConfig
from difuso.model.networks.unet import UNet

from .foreign import noise, weight
from .rounding import assert_rounded_alike, layers

TINY: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
NATIVE = UNetConfig(
    channels=8, channel_mult=(1, 2, 3), num_res_blocks=1, attention_levels=(1,), head_channels=4, groups=4
)


def their_network(content: Mapping[str, Any]) -> Any:
    """Returns a UNet2DModel whose weights are all random, including those that start at zero."""
    import diffusers

    with torch.device("meta"):
        network = diffusers.UNet2DModel(**content)
    state = {name: weight(name, *tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def our_network(config: UNetConfig, state: Mapping[str, Tensor]) -> UNet:
    with torch.device("meta"):
        network = UNet(config)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def awake(config: UNetConfig) -> UNet:
    """Returns our network with random weights."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in UNet(config).state_dict().items()}
    return our_network(config, {name: weight(name, *shape) for name, shape in shapes.items()})


@torch.inference_mode()
def assert_same_forward(
    ours: nn.Module, theirs: nn.Module, size: int, classes: int | None = None, *, channels: int = 3
) -> None:
    x, t = noise("images", 2, channels, size, size), torch.tensor([3, 977])
    labels = None if classes is None else torch.tensor([0, classes - 1])
    expected = theirs(x, t, class_labels=labels).sample
    assert 0.1 < expected.std() < 10
    assert_rounded_alike(ours(x, t, labels=labels), expected, steps=layers(ours))
