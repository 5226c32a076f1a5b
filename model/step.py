"""One step of any mix of plans: the element-wise arithmetic of a batch after its network call."""

import torch
from torch import Tensor

from .memory import upload
from .plans.plan import Column


def advance(
    x: Tensor,
    x0_previous: Tensor,
    out: Tensor,
    z: Tensor,
    rows: Tensor,
    gradient: Tensor | None = None,
    x0_before: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Applies one row of a plan to each image; returns the next x_t and the predicted clean image, shape of x.

    Args:
        x: x_t, shape (B, C, H, W), float32.
        x0_previous: the x0 predicted by the previous call, shape of x; any finite numbers at a plan's first row.
        out: the network's output at x_t, guided by W already; shape of x, or (B, 2C, H, W) if the network learned its
            variance.
        z: standard normal noise where a row has S, 0 elsewhere; shape of x.
        rows: rows of `Plan.table`, shape (B, 13), on the CPU: their values are known without asking the device.
        gradient: the gradient of log p(y | x_t) where a row has G, 0 elsewhere; shape of x. None if no row has G.
        x0_before: the x0 predicted by the call before the previous one, shape of x; any finite numbers at a plan's
            first two rows. None if no row has D.
    """
    on_device = upload(rows.to(x.dtype), x.device)
    columns = on_device[:, :, None, None, None]
    predicted, learned = out[:, : x.shape[1]], out[:, x.shape[1] :]
    # Products and sums are separate operations. Fused operations round differently in a vector's tail, so an image
    # would depend on its place in the batch.
    x0 = columns[:, Column.X0_X] * x + columns[:, Column.X0_OUT] * predicted
    x0 = _clip(x0, rows, on_device[:, Column.CLIP])
    widening = _widening(learned, rows) if learned.shape[1] else torch.ones_like(x)
    if gradient is not None:
        x0 = x0 + columns[:, Column.G] * widening * widening * gradient
    x_next = columns[:, Column.A] * x + columns[:, Column.B] * x0
    # Added even where OUT is 0: clipping would turn an infinite output into a black or white image, but 0 * infinity is
    # NaN, which reaches the end.
    x_next = x_next + columns[:, Column.OUT] * predicted
    x_next = x_next + columns[:, Column.C] * x0_previous
    if x0_before is not None:
        x_next = x_next + columns[:, Column.D] * x0_before
    x_next = x_next + columns[:, Column.S] * widening * z
    return x_next, x0


def _clip(x0: Tensor, rows: Tensor, bound: Tensor) -> Tensor:
    """Clamps each image to its bound, or to the quantile of its own pixels."""
    dynamic = rows[:, Column.QUANTILE].nonzero().flatten().tolist()
    if dynamic:
        bound = bound.clone()
        for i in dynamic:  # one by one, so that an image does not depend on the size of the batch
            threshold = x0[i].abs().flatten().quantile(float(rows[i, Column.QUANTILE]))
            bound[i] = torch.minimum(threshold.clamp(min=1.0), bound[i])
    bound = bound[:, None, None, None]
    x0 = torch.minimum(torch.maximum(x0, -bound), bound)
    for i in dynamic:
        x0[i] /= bound[i]
    return x0


def _widening(learned: Tensor, rows: Tensor) -> Tensor:
    """Returns exp(V (learned + 1) / 2), the learned factor of the standard deviation; 1 where V is 0."""
    widening = torch.ones_like(learned)
    for i in rows[:, Column.V].nonzero().flatten().tolist():  # one by one: exp rounds otherwise in a vector's tail
        widening[i] = torch.exp(rows[i, Column.V] * (0.5 * learned[i] + 0.5))
    return widening
