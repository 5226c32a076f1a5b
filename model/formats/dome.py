"""Checkpoints of dome272/Diffusion-Models-pytorch, whose names `PaperUNet` shares."""

from __future__ import annotations

import torch

from ..config import ModelConfig, ScheduleConfig
from ..networks.configs import PaperUNetConfig
from ..networks.paper_unet import PaperUNet
from .facts import DomeFacts, class_names
from .naming import Weights, adopt, size_of


def read_unet(weights: Weights, facts: DomeFacts) -> tuple[ModelConfig, PaperUNet]:
    """The model of such a state dict; its sampler adds noise of variance beta, hence `fixed_large`.

    Timestep 0 was never trained there. Sampling visits it all the same: the network has seen 1, which is as good.

    Raises:
        CheckpointError: if the weights are of one of its variants.
    """
    config = PaperUNetConfig(
        in_channels=size_of(weights, "inc.double_conv.0.weight", 1),
        out_channels=size_of(weights, "outc.weight", 0),
        time_dim=size_of(weights, "down1.emb_layer.1.weight", 1),
        num_classes=size_of(weights, "label_emb.weight", 0) if "label_emb.weight" in weights else None,
    )
    with torch.device("meta"):
        network = PaperUNet(config)
    adopt(network, weights, {name: name for name, _ in network.named_modules()})
    return ModelConfig(
        network=config,
        image_size=facts.image_size,
        channels=config.in_channels,
        schedule=ScheduleConfig("linear", 1000, 1e-4, 0.02),
        variance="fixed_large",
        classes=class_names(config.num_classes, facts.classes),
    ), network
