"""Calls of a network: with arguments by position, and with a batch of one of the sizes in use."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from model.networks.convolution import pack_convolutions

Network = Callable[..., Tensor]
"""A network with its arguments by position: from a batch of arguments to a batch of outputs."""


def by_position(
    denoiser: nn.Module,
    device: torch.device,
    names: Sequence[str],
    compiled: Mapping[int, Callable[..., Tensor]],
) -> Callable[..., Tensor]:
    """Moves a denoiser to its device; returns it as a function that takes all arguments by position.

    Args:
        names: the names of its arguments except x_t and t.
        compiled: compiled networks by batch size, which are called in its place.
    """
    denoiser = denoiser.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not compiled:
        pack_convolutions(denoiser)

    def call(x: Tensor, timesteps: Tensor, *told: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        if len(x) in compiled:
            return compiled[len(x)](x, timesteps, *told)
        out: Tensor = denoiser(x, timesteps, **dict(zip(names, told, strict=True)))
        return out

    return call


def padded(batch: Tensor, size: int) -> Tensor:
    """Repeats the last row until there are `size` rows; the results of the added rows are thrown away."""
    missing = size - len(batch)
    return batch if not missing else torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
