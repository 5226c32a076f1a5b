"""Translates the weights of diffusers' UNet2DModel to those of `UNet` and back (as of diffusers 0.42)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from difuso.model.errors import CheckpointError
from difuso.model.networks.build import unfilled
from difuso.model.networks.configs import UNetConfig
from difuso.model.networks.unet import UNet

from ..naming import Weights, tensor_of

# Layers of our blocks that have other names in diffusers, or are three layers there.
LAYERS = {
    "emb_proj": ("time_emb_proj",),
    "skip": ("conv_shortcut",),
    "norm": ("group_norm",),
    "qkv": ("to_q", "to_k", "to_v"),
    "proj": ("to_out.0",),
}
LEGACY_LAYERS = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def weights_from_diffusers(config: UNetConfig, weights: Weights) -> dict[str, Tensor]:
    """Translates a UNet2DModel's state dict. Attention may have its old names (query, key, value, proj_attn).

    Raises CheckpointError if a tensor is missing, unknown or of another shape; the message has its name in diffusers.
    """
    rest = {_current(name): tensor for name, tensor in weights.items()}
    places = _places(config)
    state = {}
    for name, like in unfilled(UNet, config).state_dict().items():
        parts = []
        for foreign, wanted in _split(places, name, like).items():
            part = tensor_of(rest, foreign)
            if part.shape != wanted.shape:
                shapes = f"shape {tuple(part.shape)}, the config asks for {tuple(wanted.shape)}"
                raise CheckpointError(f"the tensor {foreign} has {shapes}")
            parts.append(rest.pop(foreign))
        state[name] = torch.cat(parts).reshape(like.shape)
    if rest:
        raise CheckpointError(f"the checkpoint holds an unknown tensor {min(rest)}")
    return state


def weights_to_diffusers(config: UNetConfig, state: Weights) -> dict[str, Tensor]:
    """Translates a state dict of `UNet` to today's names; the reverse of `weights_from_diffusers`."""
    places = _places(config)
    return {foreign: part for name, tensor in state.items() for foreign, part in _split(places, name, tensor).items()}


def _places(config: UNetConfig) -> dict[str, str]:
    """Returns the names of modules in UNet2DModel by those in `UNet`. Both count up blocks from the deepest level."""
    places = {
        "time_mlp.0": "time_embedding.linear_1",
        "time_mlp.2": "time_embedding.linear_2",
        "label_emb": "class_embedding",
        "conv_in": "conv_in",
        "mid.0.block": "mid_block.resnets.0",
        "mid.0.attention": "mid_block.attentions.0",
        "mid.1.block": "mid_block.resnets.1",
        "norm_out": "conv_norm_out",
        "conv_out": "conv_out",
    }
    deepest = len(config.widths) - 1
    for i, (level, block) in enumerate(config.down_places()):
        theirs = f"down_blocks.{level}"
        places[f"down.{i}"] = f"{theirs}.downsamplers.0" + (".conv" if config.resample == "conv" else "")
        places[f"down.{i}.block"] = f"{theirs}.resnets.{block}"
        places[f"down.{i}.attention"] = f"{theirs}.attentions.{block}"
    for i, (level, block) in enumerate(config.up_places()):
        theirs = f"up_blocks.{deepest - level}"
        places[f"up.{i}"] = f"{theirs}.upsamplers.0"
        places[f"up.{i}.block"] = f"{theirs}.resnets.{block}"
        places[f"up.{i}.attention"] = f"{theirs}.attentions.{block}"
    return places


def _split(places: Mapping[str, str], name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Returns UNet2DModel's tensors for one of ours, by name: one, or three for qkv. Attention has matrices there."""
    place, _, kind = name.rpartition(".")
    layer = ""
    if place not in places:
        place, _, layer = place.rpartition(".")
    layers = LAYERS.get(layer, (layer,))
    if ".attention." in name and tensor.ndim == 4:
        tensor = tensor.flatten(1)
    names = [".".join(filter(None, (places[place], layer, kind))) for layer in layers]
    return dict(zip(names, tensor.chunk(len(layers)), strict=True))


def _current(name: str) -> str:
    """Returns today's name of a tensor."""
    for old, new in LEGACY_LAYERS.items() if ".attentions." in name else ():
        name = name.replace(old, new)
    return name
