"""Reads checkpoints of Ho et al.'s network in PyTorch: pesser, ermongroup/ddim, DDRM and SDEdit share its names."""

import torch
from torch import Tensor, nn

from ..errors import refused
from ..folders.config import ModelConfig, ScheduleConfig
from ..networks.build import unfilled
from ..networks.configs import UNetConfig
from ..networks.network_config import multiple
from .facts import HoFacts
from .naming import ATTENTION, Weights, adopt, count, renamed, size_of, tensor_of

BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "emb_proj": "temb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "skip": "nin_shortcut",
}


@refused("these weights are not a network of this layout")
def read_unet(weights: Weights, facts: HoFacts) -> tuple[ModelConfig, nn.Module]:
    """Makes the model of a state dict, with one attention head and TensorFlow's padding (Ho et al. 2020, app. B)."""
    config = _unet_config(weights)
    network = unfilled(config)
    adopt(network, _join_attention(weights), module_names(config))
    return ModelConfig(
        network=config,
        image_size=facts.image_size,
        channels=config.in_channels,
        schedule=ScheduleConfig("linear", facts.diffusion_steps, facts.beta_start, facts.beta_end),
        variance=facts.variance,
    ), network


def _unet_config(weights: Weights) -> UNetConfig:
    channels = size_of(weights, "conv_in.weight", 0)
    levels = count(weights, "down")
    widths = [size_of(weights, f"down.{level}.block.0.conv2.weight", 0) for level in range(levels)]
    return UNetConfig(
        in_channels=size_of(weights, "conv_in.weight", 1),
        out_channels=size_of(weights, "conv_out.weight", 0),
        channels=channels,
        channel_mult=tuple(multiple(width, channels) for width in widths),
        num_res_blocks=count(weights, "down.0.block"),
        attention_levels=tuple(level for level in range(levels) if f"down.{level}.attn.0.q.weight" in weights),
        heads=1,
        freq_shift=1,
        norm_eps=1e-6,
        asymmetric_downsample=True,
    )


def module_names(config: UNetConfig) -> dict[str, str]:
    """Returns the foreign names of all modules by our names, with q, k and v joined as qkv."""
    names = {
        "time_mlp.0": "temb.dense.0",
        "time_mlp.2": "temb.dense.1",
        "conv_in": "conv_in",
        "norm_out": "norm_out",
        "conv_out": "conv_out",
        **renamed("mid.0.block", "mid.block_1", BLOCK),
        **renamed("mid.0.attention", "mid.attn_1", ATTENTION),
        **renamed("mid.1.block", "mid.block_2", BLOCK),
    }
    for index, (level, block) in enumerate(config.down_places()):
        names |= _stage(f"down.{index}", f"down.{level}", block) | {f"down.{index}": f"down.{level}.downsample.conv"}
    for index, (level, block) in enumerate(config.up_places()):
        names |= _stage(f"up.{index}", f"up.{level}", block) | {f"up.{index}.conv": f"up.{level}.upsample.conv"}
    return names


def _stage(here: str, level: str, block: int | None) -> dict[str, str]:
    if block is None:
        return {}
    return renamed(f"{here}.block", f"{level}.block.{block}", BLOCK) | renamed(
        f"{here}.attention", f"{level}.attn.{block}", ATTENTION
    )


def _join_attention(weights: Weights) -> dict[str, Tensor]:
    """Returns the weights with q, k and v of each attention joined to one tensor, qkv."""
    joined = dict(weights)
    for name in weights:
        attention, q, leaf = name.rpartition(".q.")
        if q:
            parts = [tensor_of(weights, f"{attention}.{part}.{leaf}") for part in "qkv"]
            joined[f"{attention}.qkv.{leaf}"] = torch.cat(parts)
            for part in "qkv":
                del joined[f"{attention}.{part}.{leaf}"]
    return joined
