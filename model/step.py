"""One step of any mix of plans: the element-wise arithmetic of a batch after its network call."""

import torch
from torch import Tensor

from .memory import upload
from .plans.plan import Column


def advance(
    x: Tensor,
    kept_1: Tensor,
    out: Tensor,
    z: Tensor,
    rows: Tensor,
    gradient: Tensor | None = None,
    kept_2: Tensor | None = None,
    kept_3: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Applies one row of a plan to each image; returns the next x_t and the predicted clean image, shape of x.

    Args:
        x: x_t, shape (B, C, H, W), float32.
        kept_1: what was kept last (`remembered`), shape of x; any finite numbers where nothing was.
        out: the network's output at x_t, guided by W already; shape of x, or (B, 2C, H, W) if the network learned its
            variance.
        z: standard normal noise where a row has S, 0 elsewhere; shape of x.
        rows: rows of `Plan.table`, shape (B, 16), on the CPU: their values are known without asking the device.
        gradient: the gradient of log p(y | x_t) where a row has G, 0 elsewhere; shape of x. None if no row has G.
        kept_2, kept_3: what was kept before that, likewise. None if no row has D, or H.
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
    x_next = x_next + columns[:, Column.C] * kept_1
    if kept_2 is not None:
        x_next = x_next + columns[:, Column.D] * kept_2
    if kept_3 is not None:
        x_next = x_next + columns[:, Column.H] * kept_3
    x_next = x_next + columns[:, Column.S] * widening * z
    return x_next, x0


def remembered(x: Tensor, x0: Tensor, rows: Tensor) -> Tensor:
    """Returns what rows that keep something keep of x_t and the predicted x0, shape of x: x0 itself unless KEEP_X."""
    if not rows[:, Column.KEEP_X].any():
        return x0
    columns = upload(rows.to(x.dtype), x.device)[:, :, None, None, None]
    kept = columns[:, Column.KEEP_X] * x + columns[:, Column.KEEP_X0] * x0
    return torch.where(columns[:, Column.KEEP_X] != 0, kept, x0)


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
