"""One step of any mix of plans: the element-wise half of a batch, after its network call."""

from __future__ import annotations

import torch
from torch import Tensor

from .plans.plan import Column


def advance(
    x: Tensor, x0_previous: Tensor, out: Tensor, z: Tensor, rows: Tensor, gradient: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Applies one row to each image.

    Args:
        x: x_t, shape (B, C, H, W), float32.
        x0_previous: the x0 predicted by the call before, shape of x; anything finite at a plan's first row.
        out: the network's output at x_t, shape of x, or (B, 2C, H, W) where it learned its variance.
        z: standard normal where a row has S, 0 elsewhere; shape of x.
        rows: rows of `Plan.table`, shape (B, 11), float32.
        gradient: of log p(y | x_t) where a row has G, 0 elsewhere; shape of x. None if no row has G.

    Returns:
        (x', x0): the next x_t and the predicted clean image, shape of x.
    """
    columns = rows[:, :, None, None, None]
    predicted, learned = out[:, : x.shape[1]], out[:, x.shape[1] :]
    # Products and sums are separate operations: fused ones round differently in a vector's tail, and a picture would
    # depend on its place in the batch.
    x0 = columns[:, Column.X0_X] * x + columns[:, Column.X0_OUT] * predicted
    x0 = _clip(x0, rows)
    widening = _widening(learned, rows) if learned.shape[1] else torch.ones_like(x)
    if gradient is not None:
        x0 = x0 + columns[:, Column.G] * widening * widening * gradient
    x_next = columns[:, Column.A] * x + columns[:, Column.B] * x0
    # Never left out: clipping would turn an infinite output into a black or white picture, but 0 * out is 0, or NaN
    # that reaches the end.
    x_next = x_next + columns[:, Column.OUT] * predicted
    x_next = x_next + columns[:, Column.C] * x0_previous
    x_next = x_next + columns[:, Column.S] * widening * z
    return x_next, x0


def _clip(x0: Tensor, rows: Tensor) -> Tensor:
    """Clamps each image to its bound, or to the threshold that its own pixels choose."""
    bound = rows[:, Column.CLIP]
    dynamic = rows[:, Column.QUANTILE].nonzero().flatten().tolist()
    if dynamic:
        bound = bound.clone()
        for i in dynamic:  # one by one, so that no picture depends on how many others there are
            threshold = x0[i].abs().flatten().quantile(rows[i, Column.QUANTILE])
            bound[i] = torch.minimum(threshold.clamp(min=1.0), bound[i])
    bound = bound[:, None, None, None]
    x0 = torch.minimum(torch.maximum(x0, -bound), bound)
    for i in dynamic:
        x0[i] /= bound[i]
    return x0


def _widening(learned: Tensor, rows: Tensor) -> Tensor:
    """exp(V (learned + 1) / 2), the learned part of the standard deviation; 1 where V is 0."""
    widening = torch.ones_like(learned)
    for i in rows[:, Column.V].nonzero().flatten().tolist():  # one by one, as above: exp is a vector function too
        widening[i] = torch.exp(rows[i, Column.V] * (0.5 * learned[i] + 0.5))
    return widening
