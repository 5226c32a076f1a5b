"""A linear layer for vectors with one for each image, such as time embeddings."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 16  # in one product


class RowLinear(nn.Linear):
    """A linear layer that gives an image the same bits in a batch of any size, unless it trains.

    A matrix product of few rows is computed by other kernels than one of many. The size of a batch shows in these
    layers first, and often in no others. So they always multiply sixteen rows; unused rows are zeros. The network's
    convolutions cost a thousand times as much. So it also stays float32 in a network of another number format.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (B, out_features), of shape (B, in_features)."""
        x = x.to(self.weight.dtype)
        if self.training:
            with torch.autocast(x.device.type, enabled=False):
                return super().forward(x)
        return by_rows(lambda part: F.linear(part, self.weight, self.bias), x)


def by_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of each row of x to sixteen rows at a time; the rows that no image needs are zeros."""
    parts = F.pad(x, (0, 0) * (x.ndim - 1) + (0, -len(x) % ROWS)).split(ROWS)  # type: ignore[no-untyped-call]
    return torch.cat([function(part) for part in parts])[: len(x)]
