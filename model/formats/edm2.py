"""Reads networks of NVlabs/edm2 (Karras et al. 2024) that draw pixels, as `difuso.export_edm` writes them.

The normalisation of the weights, their gains and the scaling by fan-in are the same at every call, so they are computed
here once (equations 47 and 66). The estimate of the uncertainty, which sampling does not use, is dropped.
"""

import math
from typing import Any

from torch import Tensor, nn

from ..errors import CheckpointError, refused
from ..folders.config import ModelConfig
from ..networks.build import unfilled
from ..networks.edm2_unet import (
    ATTENTION_BALANCE,
    CLIP,
    CONCAT_BALANCE,
    LABEL_BALANCE,
    NORM_EPS,
    RESIDUAL_BALANCE,
    Attention,
)
from ..networks.sigma_configs import EDM2UNetConfig
from .edm import NOT_SERVED, common, diffusion, layer_name, require
from .facts import EDMFacts, class_names
from .naming import Weights, adopt, renamed, reorder_attention, tensor_of

CALLS = 63  # of 32 steps by Heun's method, the defaults of the authors' generate_images.py
RGB = "StandardRGBEncoder"
BLOCK = {
    "conv0": "conv_res0",
    "emb": "emb_linear",
    "conv1": "conv_res1",
    "skip": "conv_skip",
    "attention.qkv": "attn_qkv",
    "attention.proj": "attn_proj",
}
KNOWN: dict[str, Any] = {
    "label_balance": LABEL_BALANCE,
    "concat_balance": CONCAT_BALANCE,
    "res_balance": RESIDUAL_BALANCE,
    "attn_balance": ATTENTION_BALANCE,
    "clip_act": CLIP,
    "resample_filter": (1, 1),
}


@refused(NOT_SERVED)
def read_unet(weights: Weights, facts: EDMFacts) -> tuple[ModelConfig, nn.Module]:
    """Makes the model of a state dict of Precond. By default it samples as theirs does, with 32 steps."""
    if facts.encoder not in (None, RGB) or facts.img_channels not in (1, 3):
        raise CheckpointError(
            f"this is a latent model: it draws {facts.img_channels} channels that an autoencoder turns into an image, "
            "but difuso works on pixels, as the EDM2 models for 64x64 pixels do"
        )
    require(facts, **KNOWN)
    config = _config(facts)
    network = unfilled(config)
    names = {"": "unet.emb_fourier", "emb_noise": "unet.emb_noise", "label_emb": "unet.emb_label"}
    names["conv_out"] = "unet.out_conv"
    for half, places in {"enc": config.encoder_places(), "dec": config.decoder_places()}.items():
        for index, (kind, level, number) in enumerate(places):
            here, there = f"{half}.{index}", f"unet.{layer_name(facts, half, kind, level, number)}"
            names |= {here: there} | renamed(here, there, BLOCK)
    adopt(network, _folded(weights), names)
    reorder_attention(network, Attention, axis=2)
    return ModelConfig(
        network=config,
        image_size=facts.img_resolution,
        channels=facts.img_channels,
        classes=class_names(config.num_classes, facts.classes),
        **diffusion(facts, CALLS),
    ), network


def _config(facts: EDMFacts) -> EDM2UNetConfig:
    widths = [facts.model_channels * mult for mult in facts.channel_mult]
    noise, emb = facts.channel_mult_noise, facts.channel_mult_emb
    return EDM2UNetConfig(
        **common(facts),
        head_channels=facts.channels_per_head,
        noise_channels=widths[0] if noise is None else facts.model_channels * noise,
        emb_channels=max(widths) if emb is None else facts.model_channels * emb,
    )


def _folded(weights: Weights) -> dict[str, Tensor]:
    """Returns the weights as each call uses them, and the layer that embeds one-hot classes as a table."""
    folded = {}
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        if name == "unet.emb_label.weight":  # its input is a one-hot vector times the root of its length
            folded[name] = _normalised(tensor).T
        elif leaf == "weight" and not module.startswith("logvar_"):
            normalised = _normalised(tensor)
            folded[name] = normalised * (_gain(weights, module) / math.sqrt(normalised[0].numel()))
        elif module == "unet.emb_fourier":
            folded[f"{module}.{'frequencies' if leaf == 'freqs' else leaf}"] = tensor.float()
        elif leaf not in ("emb_gain", "out_gain") and not module.startswith("logvar_"):
            folded[name] = tensor
    return folded


def _gain(weights: Weights, module: str) -> float:
    """Returns the learned gain of a layer; 1 if it has none."""
    parent, _, leaf = module.rpartition(".")
    gain = {"emb_linear": "emb_gain", "out_conv": "out_gain"}.get(leaf)
    return 1.0 if gain is None else float(tensor_of(weights, f"{parent}.{gain}"))


def _normalised(tensor: Tensor) -> Tensor:
    """Returns the weights with a root mean square of 1 for each output."""
    if tensor.ndim < 2:
        raise CheckpointError("the checkpoint holds a layer without inputs, which does not belong to this network")
    tensor = tensor.float()
    rows = tensor.flatten(1)
    norm = NORM_EPS + rows.norm(dim=1) / math.sqrt(rows.shape[1])
    return tensor / norm.view(-1, *[1] * (tensor.ndim - 1))
