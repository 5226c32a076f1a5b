"""Reads networks of NVlabs/edm (Karras et al. 2022), as `difuso.export_edm` writes them: tensors and facts.

SongUNet is our `SongUNet`, DhariwalUNet our `UNet`. The conditioning on augmentations, which sampling leaves out there
too, is dropped.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, refused
from ..folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from ..networks import song_unet, unet
from ..networks.build import unfilled
from ..networks.configs import UNetConfig
from ..networks.network_config import NetworkConfig
from ..networks.sigma_configs import Filter, SongUNetConfig
from ..plans.clipping import Clipping
from ..plans.prediction import Preconditioning
from .facts import EDMFacts, class_names
from .naming import Weights, adopt, renamed, reorder_attention, tensor_of

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # where the authors' sampler begins and ends, unless the network says otherwise
TIMESTEPS = 1000
CALLS = 35  # of 18 steps by Heun's method, the defaults of the authors' generate.py
NOT_SERVED = "the facts describe a network that cannot be served"
BLOCK = {name: name for name in ("norm0", "conv0", "affine", "norm1", "conv1", "skip")}
ATTENTION = {"attention.norm": "norm2", "attention.qkv": "qkv", "attention.proj": "proj"}
UNET_BLOCK = {"norm1": "norm0", "conv1": "conv0", "emb_proj": "affine", "norm2": "norm1", "conv2": "conv1"}
UNET_STAGE = {f"block.{ours}": theirs for ours, theirs in {**UNET_BLOCK, "skip": "skip"}.items()} | ATTENTION
LEAST_WIDTH = 128  # with fewer channels DhariwalUNet has fewer than 32 groups


@refused(NOT_SERVED)
def read_unet(weights: Weights, facts: EDMFacts) -> tuple[ModelConfig, nn.Module]:
    """Makes the model of a state dict of EDMPrecond, VPPrecond, VEPrecond or iDDPMPrecond.

    By default it samples as theirs does: Heun's method with 18 steps on the grid of Karras et al., without clipping.
    """
    weights = {
        name: tensor
        for name, tensor in weights.items()
        if not name.endswith(".resample_filter") and name not in ("model.map_augment.weight", "u")
    }
    config, network = (_song_unet if facts.model == "SongUNet" else _dhariwal_unet)(weights, facts)
    return ModelConfig(
        network=config,
        image_size=facts.img_resolution,
        channels=facts.img_channels,
        classes=class_names(config.num_classes, facts.classes),
        **diffusion(facts),
    ), network


def diffusion(facts: EDMFacts, calls: int = CALLS) -> dict[str, Any]:
    """Returns the fields that follow from the preconditioning; raises CheckpointError for unpublished constants."""
    heun = {"clip": Clipping("none"), "defaults": SamplerDefaults("heun", calls, "karras")}
    low, high = facts.sigma_min or 0.0, math.inf if facts.sigma_max is None else facts.sigma_max
    match facts.precond:
        case "VPPrecond":
            require(facts, M=TIMESTEPS)
            ends = facts.beta_min / TIMESTEPS, (facts.beta_min + facts.beta_d) / TIMESTEPS
            schedule, kind = ScheduleConfig("continuous_linear", TIMESTEPS, *ends), Preconditioning("vp")
        case "VEPrecond":
            schedule, kind = _geometric(low, high), Preconditioning("ve")
        case "iDDPMPrecond":  # a network of ADM, called at its own timesteps
            require(facts, C_1=0.001, C_2=0.008)
            defaults = SamplerDefaults(steps=min(SamplerDefaults.steps, facts.M))
            return {"schedule": ScheduleConfig("cosine", facts.M), "variance": "learned_range", "defaults": defaults}
        case _:
            schedule = _geometric(max(low, SIGMA_MIN), min(high, SIGMA_MAX))
            kind = Preconditioning("edm", facts.sigma_data)
    return {"schedule": schedule, "preconditioning": kind, "prediction": kind.prediction, **heun}


def _geometric(low: float, high: float) -> ScheduleConfig:
    if not 0 < low < high < math.inf:
        raise CheckpointError(f"the facts give sigma_min {low} and sigma_max {high}, which are not a range of sigmas")
    return ScheduleConfig("geometric", TIMESTEPS, sigma_min=low, sigma_max=high)


def require(facts: EDMFacts, **known: Any) -> None:
    """Raises CheckpointError unless the facts have these values."""
    for name, value in known.items():
        if getattr(facts, name) != value:
            raise CheckpointError(f"the facts give {name} {getattr(facts, name)}; only {name} {value} can be served")


def common(facts: EDMFacts) -> dict[str, Any]:
    """Returns the fields that the configs of all these networks have."""
    levels = range(len(facts.channel_mult))
    return {
        "in_channels": facts.img_channels,
        "out_channels": facts.out_channels or facts.img_channels,
        "channels": facts.model_channels,
        "channel_mult": facts.channel_mult,
        "num_res_blocks": facts.num_blocks,
        "attention_levels": tuple(level for level in levels if facts.img_resolution >> level in facts.attn_resolutions),
        "num_classes": facts.label_dim or None,
    }


def layer_name(facts: EDMFacts, half: str, kind: str, level: int, number: int) -> str:
    """Returns the foreign name of an entry of the downward (`enc`) or upward (`dec`) half."""
    size = facts.img_resolution >> level
    there = {"block": f"block{number}", "middle": f"in{number}", "out": "aux"}.get(kind, kind)
    there = f"aux_{there}" if kind in ("skip", "residual") else there
    return f"{half}.{size}x{size}_{there}"


def _song_unet(weights: Weights, facts: EDMFacts) -> tuple[NetworkConfig, nn.Module]:
    filters: dict[tuple[int, ...], Filter] = {(1, 1): "box", (1, 3, 3, 1): "binomial"}
    if facts.resample_filter not in filters:
        raise CheckpointError(f"the facts give resample_filter {list(facts.resample_filter)}, which cannot be served")
    config = SongUNetConfig(
        **common(facts),
        noise_channels=facts.model_channels * (facts.channel_mult_noise or 1),
        emb_channels=facts.model_channels * (facts.channel_mult_emb or 4),
        fourier=facts.embedding_type == "fourier",
        encoder=facts.encoder_type,
        decoder=facts.decoder_type,
        resample=filters[facts.resample_filter],
        dropout=facts.dropout,
        null_class=facts.label_dropout > 0,
    )
    network = unfilled(config)
    names = {"": "model.map_noise", "label_emb": "model.map_label"}
    names |= {f"emb.{index}": f"model.map_layer{index}" for index in range(2)}
    for half, places in {"enc": config.encoder_places(), "dec": config.decoder_places()}.items():
        for index, (kind, level, number) in enumerate(places):
            here, there = f"{half}.{index}", f"model.{layer_name(facts, half, kind, level, number)}"
            names |= {here: there} | renamed(here, there, BLOCK | ATTENTION)
            names |= {f"{here}.norm": f"{there}_norm", f"{here}.conv": f"{there}_conv"} if kind == "out" else {}
    weights = {name.replace("map_noise.freqs", "map_noise.frequencies"): each for name, each in weights.items()}
    adopt(network, _with_classes(weights, facts, math.sqrt(facts.label_dim)), names)
    reorder_attention(network, song_unet.Attention, axis=2)
    return config, network


def _dhariwal_unet(weights: Weights, facts: EDMFacts) -> tuple[NetworkConfig, nn.Module]:
    if (facts.channel_mult_emb or 4) != 4 or facts.model_channels * min(facts.channel_mult) < LEAST_WIDTH:
        raise CheckpointError(
            f"this DhariwalUNet has levels of fewer than {LEAST_WIDTH} channels, or a channel_mult_emb other than 4; "
            "such networks cannot be served"
        )
    config = UNetConfig(
        **common(facts),
        time_injection="scale_shift",
        time_order="cos_sin",
        dropout=facts.dropout,
        resample="resblock",
        null_class=facts.label_dropout > 0,
    )
    network = unfilled(config)
    names = {
        "time_mlp.0": "model.map_layer0",
        "time_mlp.2": "model.map_layer1",
        "label_emb": "model.map_label",
        "conv_in": f"model.{layer_name(facts, 'enc', 'conv', 0, 0)}",
        "norm_out": "model.out_norm",
        "conv_out": "model.out_conv",
    }
    for half, places in {"down": config.down_places(), "up": config.up_places()}.items():
        for index, (level, block) in enumerate(places):
            next_level = level + 1 if half == "down" else level - 1
            place = (half, next_level, 0) if block is None else ("block", level, block)
            there = f"model.{layer_name(facts, 'enc' if half == 'down' else 'dec', *place)}"
            names |= renamed(f"{half}.{index}", there, UNET_BLOCK if block is None else UNET_STAGE)
    for index in range(2):
        there = layer_name(facts, "dec", "middle", len(facts.channel_mult) - 1, index)
        names |= renamed(f"mid.{index}", f"model.{there}", UNET_STAGE)
    adopt(network, _with_classes(weights, facts, 1.0), names)
    reorder_attention(network, unet.Attention, axis=2)
    return config, network


def _with_classes(weights: Weights, facts: EDMFacts, scale: float) -> dict[str, Tensor]:
    """Returns the weights with the layer of one-hot classes as a table; its last row may be that of no class."""
    weights = dict(weights)
    if not facts.label_dim:
        return weights
    name, bias = "model.map_label.weight", weights.pop("model.map_label.bias", None)
    table = tensor_of(weights, name).T * scale
    if facts.label_dropout:
        table = torch.cat([table, torch.zeros_like(table[:1])])
    weights[name] = table if bias is None else table + bias
    return weights
