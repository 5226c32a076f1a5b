"""Builds networks from their configs."""

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import TypeVar

import torch
from torch import nn

from ..errors import CheckpointError
from .configs import ClassifierConfig, ForeignConfig, kind_of
from .foreign import build_foreign
from .network_config import NetworkConfig

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


def build_network(config: NetworkConfig | ClassifierConfig) -> nn.Module:
    """Builds a network with fresh weights; raises ForeignError if the class of another package fails."""
    if isinstance(config, ForeignConfig):
        return build_foreign(config)
    module = import_module(f".{kind_of(config)}", __package__)
    network: nn.Module = getattr(module, type(config).__name__.removesuffix("Config"))(config)
    return network


def unfilled(build: Callable[[Config], Network], config: Config) -> Network:
    """Builds a network without memory for its weights, so that a huge config costs nothing before it is checked.

    A network of another package is built with memory: its class may compute what is not among its weights.

    Raises CheckpointError if the network cannot be built.
    """
    try:
        with nullcontext() if isinstance(config, ForeignConfig) else torch.device("meta"):
            return build(config)
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"the config describes a network that cannot be built: {error}") from error
