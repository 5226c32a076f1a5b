"""Reads checkpoints of JiT, the pixel transformers of LTH14/JiT (Li & He 2025)."""

import math

from torch import nn

from ..errors import refused
from ..folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from ..networks.build import unfilled
from ..networks.configs import DiTConfig
from ..plans.clipping import Clipping
from .facts import JiTFacts, class_names
from .naming import Weights, adopt, count, renamed, size_of

PREFIX = "net."  # of the network in their Denoiser
BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.q_norm": "attn.q_norm",
    "attention.k_norm": "attn.k_norm",
    "attention.qkv": "attn.qkv",
    "attention.proj": "attn.proj",
    "mlp.w12": "mlp.w12",
    "mlp.w3": "mlp.w3",
    "modulation": "adaLN_modulation.1",
}
AROUND = {
    "time_mlp.0": "t_embedder.mlp.0",
    "time_mlp.2": "t_embedder.mlp.2",
    "label_emb": "y_embedder.embedding_table",
    "context": "context",
    "narrow": "x_embedder.proj1",
    "widen": "x_embedder.proj2",
    "norm_out": "final_layer.norm_final",
    "modulation_out": "final_layer.adaLN_modulation.1",
    "out": "final_layer.linear",
}
# Their sampler: Heun's method in 50 steps, guided at their times from 0.1 on, where sigma is 9 times the noise's scale.
CALLS, GUIDED_BELOW = 99, 9.0


def read_unet(weights: Weights, facts: JiTFacts) -> tuple[ModelConfig, nn.Module]:
    """Makes the model of a state dict of JiT, or of its Denoiser."""
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    config = network_config(weights, facts)
    side = math.isqrt(size_of(weights, "pos_embed", 1))  # the embedding of places is fixed, and ours computes it
    state = {name: tensor for name, tensor in weights.items() if name not in ("pos_embed", "in_context_posemb")}
    if config.context_tokens:
        state["context.weight"] = weights["in_context_posemb"][0]
    names = dict(AROUND)
    for i in range(config.depth):
        names |= renamed(f"blocks.{i}", f"blocks.{i}", BLOCK)
    network = unfilled(config)
    adopt(network, state, names)
    return ModelConfig(
        network=config,
        image_size=side * config.patch,
        channels=config.in_channels,
        schedule=ScheduleConfig("flow", 1000, noise_scale=facts.noise_scale),
        prediction="x0",
        clip=Clipping("none"),
        classes=class_names(config.num_classes, facts.classes),
        defaults=SamplerDefaults("heun", CALLS, "karras", guidance_high=GUIDED_BELOW * facts.noise_scale),
    ), network


@refused("the weights have no network")
def network_config(weights: Weights, facts: JiTFacts) -> DiTConfig:
    """Returns the architecture of the weights; raises CheckpointError if facts contradict it, or it is not ours."""
    narrow, depth = "x_embedder.proj1.weight", count(weights, "blocks")
    channels, patch = size_of(weights, "x_embedder.proj2.weight", 0), size_of(weights, narrow, 3)
    tokens = weights["in_context_posemb"].shape[1] if "in_context_posemb" in weights else 0
    start = depth // 3 if facts.in_context_start is None else facts.in_context_start  # as in all that were released
    return DiTConfig(
        in_channels=size_of(weights, narrow, 1),
        out_channels=size_of(weights, "final_layer.linear.weight", 0) // patch**2,
        channels=channels,
        depth=depth,
        heads=channels // size_of(weights, "blocks.0.attn.q_norm.weight", 0),
        patch=patch,
        bottleneck=size_of(weights, narrow, 0),
        context_tokens=tokens,
        context_start=start if tokens else 0,
        dropout=facts.proj_dropout,
        num_classes=size_of(weights, "y_embedder.embedding_table.weight", 0) - 1,
    )
