"""Builds networks from their configs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import CheckpointError
from .classifier import Classifier
from .configs import ClassifierConfig, LucidUNetConfig, PaperUNetConfig, UNetConfig
from .edm2_unet import EDM2UNet
from .lucid_unet import LucidUNet
from .network_config import NetworkConfig
from .paper_unet import PaperUNet
from .sigma_configs import EDM2UNetConfig, SongUNetConfig
from .song_unet import SongUNet
from .unet import UNet

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)
NETWORKS: dict[type[NetworkConfig] | type[ClassifierConfig], Callable[[Any], nn.Module]] = {
    UNetConfig: UNet,
    PaperUNetConfig: PaperUNet,
    LucidUNetConfig: LucidUNet,
    ClassifierConfig: Classifier,
    SongUNetConfig: SongUNet,
    EDM2UNetConfig: EDM2UNet,
}


def build_network(config: NetworkConfig | ClassifierConfig) -> nn.Module:
    """Builds a network with fresh weights."""
    return NETWORKS[type(config)](config)


def unfilled(build: Callable[[Config], Network], config: Config) -> Network:
    """Builds a network without memory for its weights, so that a huge config costs nothing before it is checked.

    Raises:
        CheckpointError: if the network cannot be built.
    """
    try:
        with torch.device("meta"):
            return build(config)
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"the config describes a network that cannot be built: {error}") from error
