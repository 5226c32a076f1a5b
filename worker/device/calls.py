"""Calls of a network: with arguments by position, and with a batch of one of the sizes in use."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.networks.convolution import pack_convolutions

from .precision import computing, precision_on, prepare

Network = Callable[..., Tensor]
"""A network with its arguments by position: from a batch of arguments to a batch of outputs."""


def by_position(checkpoint: Checkpoint, device: torch.device, compiled: Mapping[int, Network]) -> Network:
    """Prepares a model's denoiser for a device; returns it as a function that takes all arguments by position.

    Args:
        checkpoint: the model, whose network is moved and put in the number format of its config.
        compiled: compiled networks by batch size, which are called in its place.
    """
    names, precision = checkpoint.config.told, precision_on(device, checkpoint.config)
    denoiser = prepare(checkpoint.denoiser, device, precision)
    if not compiled:
        pack_convolutions(denoiser)

    def call(x: Tensor, timesteps: Tensor, *told: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        if len(x) in compiled:
            return compiled[len(x)](x, timesteps, *told)
        with computing(device, precision):
            out: Tensor = denoiser(x, timesteps, **dict(zip(names, told, strict=True)))
        return out

    return call


def padded(batch: Tensor, size: int) -> Tensor:
    """Repeats the last row until there are `size` rows; the results of the added rows are thrown away."""
    missing = size - len(batch)
    return batch if not missing else torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
