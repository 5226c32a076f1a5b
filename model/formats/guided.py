"""Reads checkpoints of improved-diffusion and guided-diffusion: networks of IDDPM and ADM, and ADM's classifiers.

Their files hold weights alone. The shapes show most of the architecture; `facts` give the rest.
"""

import math
from typing import Any, cast

from torch import nn

from ..errors import CheckpointError, refused
from ..folders.config import ModelConfig
from ..networks.build import unfilled
from ..networks.classifier import Classifier
from ..networks.configs import ClassifierConfig, UNetConfig
from ..networks.network_config import multiple
from ..networks.unet import Attention
from .facts import ClassifierFacts, GuidedFacts, class_names, schedule_of
from .naming import ATTENTION, Weights, adopt, count, renamed, reorder_attention, size_of

BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
}


@refused("the facts contradict the weights")
def read_unet(weights: Weights, facts: GuidedFacts) -> tuple[ModelConfig, nn.Module]:
    """Makes the model of a UNetModel's state dict."""
    config = _unet_config(weights, facts)
    network = unfilled(config)
    adopt(network, weights, encoder_names(config) | decoder_names(config))
    if not facts.use_new_attention_order:
        reorder_attention(network, Attention, axis=1)
    learned = config.out_channels == 2 * config.in_channels
    return ModelConfig(
        network=config,
        image_size=facts.image_size,
        channels=config.in_channels,
        schedule=schedule_of(facts.noise_schedule, facts.diffusion_steps),
        prediction="x0" if facts.predict_xstart else "eps",
        variance="learned_range" if learned else "fixed_small" if facts.sigma_small else "fixed_large",
        classes=class_names(config.num_classes, facts.classes),
    ), network


@refused("the facts contradict the weights")
def read_classifier(weights: Weights, facts: ClassifierFacts) -> Classifier:
    """Makes the model of an EncoderUNetModel; raises CheckpointError if facts contradict it, or for other pooling."""
    config = _classifier_config(weights, facts)
    classifier = unfilled(config)
    pool = {"pool": "out.2", "pool.qkv": "out.2.qkv_proj", "pool.proj": "out.2.c_proj"}
    adopt(classifier, weights, encoder_names(config.unet) | pool)
    if not facts.use_new_attention_order:
        reorder_attention(classifier, Attention, axis=1)
    return cast("Classifier", classifier)


def _unet_config(weights: Weights, facts: GuidedFacts) -> UNetConfig:
    in_channels = size_of(weights, "input_blocks.0.0.weight", 1)
    out_channels = size_of(weights, "out.2.weight", 0)
    if in_channels == 6:
        raise CheckpointError(
            "this is a super-resolution model: its 6 input channels take a small image with the noise, "
            "but difuso draws images from noise alone"
        )
    if out_channels not in (in_channels, 2 * in_channels):
        raise CheckpointError(f"a network with {in_channels} channels in and {out_channels} out is not a denoiser")
    blocks = count(weights, "output_blocks")
    per_level = next((index + 1 for index in range(blocks) if _doubles(weights, index)), blocks)
    return UNetConfig(
        **_encoder(weights, per_level),
        in_channels=in_channels,
        out_channels=out_channels,
        heads=facts.num_heads,
        head_channels=facts.num_head_channels or UNetConfig.head_channels,
        time_order="cos_sin",
        timestep_scale=1000 / facts.diffusion_steps if facts.rescale_timesteps else 1.0,
        dropout=facts.dropout,
        num_classes=size_of(weights, "label_emb.weight", 0) if "label_emb.weight" in weights else None,
        null_class=False,
    )


def _classifier_config(weights: Weights, facts: ClassifierFacts) -> ClassifierConfig:
    if "out.2.positional_embedding" not in weights:
        raise CheckpointError("this classifier cannot be read: it does not pool by attention as the released ones do")
    last_size = max(1, math.isqrt(size_of(weights, "out.2.positional_embedding", 1) - 1))
    levels = max(1, (facts.image_size // last_size).bit_length())
    per_level, rest = divmod(count(weights, "input_blocks"), levels)
    if facts.image_size != last_size << (levels - 1) or rest:
        raise CheckpointError(
            f"the facts give image_size {facts.image_size}, but the number of levels in the weights does not reduce "
            f"that to {last_size}x{last_size}"
        )
    return ClassifierConfig(
        **_encoder(weights, per_level),
        in_channels=size_of(weights, "input_blocks.0.0.weight", 1),
        image_size=facts.image_size,
        num_classes=size_of(weights, "out.2.c_proj.weight", 0),
        head_channels=facts.num_head_channels,
    )


def _encoder(weights: Weights, per_level: int) -> dict[str, Any]:
    """Returns the fields that the downward half shows; a level has `per_level` entries, with the first convolution."""
    blocks = count(weights, "input_blocks")
    if per_level < 2 or blocks % per_level:
        raise CheckpointError("some levels change the resolution without weights of their own (conv_resample False)")
    channels = size_of(weights, "time_embed.0.weight", 1)
    firsts = range(1, blocks, per_level)  # the first block of each level
    widths = [size_of(weights, f"input_blocks.{n}.0.out_layers.3.weight", 0) for n in firsts]
    time = size_of(weights, "input_blocks.1.0.emb_layers.1.weight", 0)
    return {
        "channels": channels,
        "channel_mult": tuple(multiple(width, channels) for width in widths),
        "num_res_blocks": per_level - 1,
        "attention_levels": tuple(
            level for level, n in enumerate(firsts) if f"input_blocks.{n}.1.qkv.weight" in weights
        ),
        "time_injection": "scale_shift" if time == 2 * widths[0] else "add",
        "resample": "conv" if f"input_blocks.{per_level}.0.op.weight" in weights else "resblock",
    }


def _doubles(weights: Weights, index: int) -> bool:
    """Returns whether an output block ends with a layer that doubles the resolution."""
    parts = [f"output_blocks.{index}.{place}.{part}" for place in (1, 2) for part in ("conv", "in_layers.0")]
    return any(f"{part}.weight" in weights for part in parts)


def encoder_names(config: UNetConfig) -> dict[str, str]:
    """Returns the foreign names of all modules except the upward half, by our names."""
    names = {
        "time_mlp.0": "time_embed.0",
        "time_mlp.2": "time_embed.2",
        "label_emb": "label_emb",
        "conv_in": "input_blocks.0.0",
        "norm_out": "out.0",
        "conv_out": "out.2",
    }
    for index, (_, block) in enumerate(config.down_places()):
        here, there = f"down.{index}", f"input_blocks.{index + 1}"
        if block is None:
            names |= {here: f"{there}.0.op"} | renamed(here, f"{there}.0", BLOCK)
        else:
            names |= _stage(here, f"{there}.0", f"{there}.1")
    return names | _stage("mid.0", "middle_block.0", "middle_block.1") | _stage("mid.1", "middle_block.2", "")


def decoder_names(config: UNetConfig) -> dict[str, str]:
    """Returns the foreign names of the modules of the upward half, by our names."""
    names: dict[str, str] = {}
    output = -1
    for index, (level, block) in enumerate(config.up_places()):
        here = f"up.{index}"
        if block is None:  # there it is the last layer of the block before
            there = f"output_blocks.{output}.{2 if level in config.attention_levels else 1}"
            names |= {f"{here}.conv": f"{there}.conv"} | renamed(here, there, BLOCK)
        else:
            output += 1
            names |= _stage(here, f"output_blocks.{output}.0", f"output_blocks.{output}.1")
    return names


def _stage(here: str, block: str, attention: str) -> dict[str, str]:
    return renamed(f"{here}.block", block, BLOCK) | renamed(f"{here}.attention", attention, ATTENTION)
