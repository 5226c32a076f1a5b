"""Builds networks from their configs, those of other packages so that their mistakes have names."""

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ForeignError, refused
from ..foreign.code import foreign_code, load
from .configs import ClassifierConfig, ForeignConfig, kind_of
from .layers import Convolution, RowLinear
from .network_config import NetworkConfig

MOST_VECTORS = 32  # in a batch; more rows than that are tokens, of which every batch has many


def build_network(config: NetworkConfig | ClassifierConfig) -> nn.Module:
    """Builds a network with fresh weights; raises ForeignError if the class of another package fails."""
    if isinstance(config, ForeignConfig):
        return _build_foreign(config)
    module = import_module(f".{kind_of(config)}", __package__)
    network: nn.Module = getattr(module, type(config).__name__.removesuffix("Config"))(config)
    return network


@refused("the config describes a network that cannot be built")
def unfilled(config: NetworkConfig | ClassifierConfig) -> nn.Module:
    """Builds a network without memory for its weights, so that a huge config costs nothing before it is checked.

    A network of another package is built with memory: its class may compute what is not among its weights.

    Raises CheckpointError if the network cannot be built.
    """
    with nullcontext() if isinstance(config, ForeignConfig) else torch.device("meta"):
        return build_network(config)


class Guarded(nn.Module):
    """What the class of a foreign network inherits first: it checks each output, and names the class in each error."""

    foreign: ClassVar[ForeignConfig]

    def forward(self, x: Tensor, t: Tensor, **inputs: Tensor) -> Tensor:
        """Returns the output, (B, out_channels, H, W); raises ForeignError if the class fails or returns another."""
        with foreign_code(self.foreign.type, "be called"):
            out = super().forward(x.contiguous(), t, **inputs)
        wanted = (len(x), self.foreign.out_channels, *x.shape[2:])
        if not isinstance(out, Tensor) or tuple(out.shape) != wanted or not out.is_floating_point():
            found = f"{out.dtype} of shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise ForeignError(f"{self.foreign.type} must return floats of shape {wanted}, and returned {found}")
        return out

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Keeps weights contiguous: where ours get the memory format that is faster, much code's `view` would fail."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = tensor.data.contiguous()
        return self


class VectorLinear(RowLinear):
    """A linear layer that computes as `RowLinear` does where an image has one vector, and else as PyTorch does."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (..., out_features), of shape (..., in_features)."""
        return super().forward(x) if x.ndim == 2 and len(x) <= MOST_VECTORS else F.linear(x, self.weight, self.bias)


def _build_foreign(config: ForeignConfig) -> nn.Module:
    """Builds a network of another package, which must have been allowed, with the weights that its class gives it."""
    found = load(config.type)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ForeignError(f"{config.type} must be a class that inherits from torch.nn.Module")
    guarded = type(found.__name__, (Guarded, found), {"foreign": config})
    with foreign_code(config.type, "be built"):
        network: nn.Module = guarded(**{name: _of_tuples(value) for name, value in config.args.items()})
    _make_exact(network)
    return network


def _make_exact(network: nn.Module) -> None:
    """Lets the usual layers of PyTorch compute as ours do: an image has the same bits in a batch of any size."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            layer.__class__ = Convolution
        elif type(layer) is nn.Linear:
            layer.__class__ = VectorLinear


def _of_tuples(value: Any) -> Any:
    """Returns a value of JSON with tuples in place of lists, as the defaults of arguments are in Python."""
    if isinstance(value, dict):
        return {name: _of_tuples(each) for name, each in value.items()}
    return tuple(map(_of_tuples, value)) if isinstance(value, list | tuple) else value
