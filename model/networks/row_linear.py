"""A linear layer for vectors of which each image has one, such as time embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 16  # in one product


class RowLinear(nn.Linear):
    """A linear layer that gives an image the same bits in a batch of any size, unless it trains.

    A matrix product of few rows is computed by other kernels than one of many. These layers are where the size of a
    batch shows first, and often the only ones, so they always multiply sixteen rows; those that no image needs are
    zeros. The network's convolutions cost a thousand times as much.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (B, out_features).

        Args:
            x: shape (B, in_features).
        """
        if self.training:
            return super().forward(x)
        parts = F.pad(x, (0, 0, 0, -len(x) % ROWS)).split(ROWS)  # type: ignore[no-untyped-call]
        return torch.cat([F.linear(part, self.weight, self.bias) for part in parts])[: len(x)]
