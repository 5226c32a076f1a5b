"""Halving and doubling the resolution with a box filter or a binomial one (Karras et al. 2019, section 4.2).

Everything outside an image is 0. Sums are element by element, so an image does not depend on its batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sigma_configs import Filter


def halve(x: Tensor, resample: Filter = "box", *, padded: bool = False) -> Tensor:
    """Returns an image of half the height and width.

    Args:
        x: shape (B, C, H, W), or (B, C, H + 2, W + 2) if it is padded already.
        padded: whether x has a border of its own; the box filter needs none.
    """
    if resample == "box":
        return F.avg_pool2d(x, 2)
    x = x if padded else F.pad(x, (1, 1, 1, 1))
    return _halve_rows(_halve_rows(x).mT).mT


def double(x: Tensor, resample: Filter = "box") -> Tensor:
    """Returns an image of twice the height and width."""
    if resample != "box":
        return _double_rows(_double_rows(x).mT).mT
    if not x.requires_grad:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    # The same values. PyTorch 2.13 compiles the gradient of the other way to zero, in bfloat16 on a CPU.
    b, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, 2, w, 2, c)
    return rows.reshape(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def _halve_rows(x: Tensor) -> Tensor:
    outer = x[..., :-3:2, :] + x[..., 3::2, :]
    inner = x[..., 1:-2:2, :] + x[..., 2:-1:2, :]
    return 0.125 * outer + 0.375 * inner


def _double_rows(x: Tensor) -> Tensor:
    near, padded = 0.75 * x, F.pad(0.25 * x, (0, 0, 1, 1))
    even, odd = near + padded[..., :-2, :], near + padded[..., 2:, :]
    return torch.stack([even, odd], dim=-2).flatten(-3, -2)
