"""Builds networks from their configs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from .configs import NetworkConfig, PaperUNetConfig, UNetConfig
from .paper_unet import PaperUNet
from .unet import UNet

NETWORKS: dict[type[NetworkConfig], Callable[[Any], nn.Module]] = {UNetConfig: UNet, PaperUNetConfig: PaperUNet}


def build_network(config: NetworkConfig) -> nn.Module:
    """Builds a network with fresh weights."""
    return NETWORKS[type(config)](config)
