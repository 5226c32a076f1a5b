"""One step of any mix of plans: the element-wise half of a batch, after its network call."""

from __future__ import annotations

import torch
from torch import Tensor

from .plan import Column


def advance(x: Tensor, x0_previous: Tensor, out: Tensor, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Applies one row to each image.

    Args:
        x: x_t, shape (B, C, H, W), float32.
        x0_previous: the x0 predicted by the call before, shape of x; anything finite at a plan's first row.
        out: the network's output at x_t, shape of x.
        z: standard normal where a row has S, 0 elsewhere; shape of x.
        rows: rows of `Plan.table`, shape (B, 7), float32.

    Returns:
        (x', x0): the next x_t and the predicted clean image, shape of x.
    """
    columns = rows[:, :, None, None, None]
    bound = columns[:, Column.CLIP]
    # Products and sums are separate operations: fused ones round differently in a vector's tail, and a picture would
    # depend on its place in the batch.
    x0 = columns[:, Column.X0_X] * x + columns[:, Column.X0_OUT] * out
    x0 = torch.minimum(torch.maximum(x0, -bound), bound)
    x_next = columns[:, Column.A] * x + columns[:, Column.B] * x0
    x_next = x_next + columns[:, Column.C] * x0_previous
    x_next = x_next + columns[:, Column.S] * z
    # Clipping would turn an infinite output into a black or white picture; 0 * out is 0, or NaN that reaches the end.
    return x_next + 0.0 * out, x0
