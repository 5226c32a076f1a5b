"""How a network is called: with what it is told by position, and with a batch of one of the sizes in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn


def by_position(
    denoiser: nn.Module, names: Sequence[str], compiled: Mapping[int, Callable[..., Tensor]]
) -> Callable[..., Tensor]:
    """Returns a denoiser that takes what it is told by position, and is compiled for some batch sizes."""

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
