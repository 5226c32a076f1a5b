"""Mixtures of two images, or of two noises."""

import numpy as np
import torch
from torch import Tensor


def mix(x_a: Tensor, x_b: Tensor, share: float) -> Tensor:
    """Returns (1 - share) x_a + share x_b (Ho et al. 2020, section 4.4, with x_t in the place of x_0)."""
    return (1.0 - share) * x_a + share * x_b


def slerp(x_a: Tensor, x_b: Tensor, share: float) -> Tensor:
    """Interpolates along the arc between two noises (Song et al. 2021, section 5.3); a straight line shrinks the norm.

    sin((1 - share) theta) / sin(theta) x_a + sin(share theta) / sin(theta) x_b, with theta the angle between them. If
    they point in the same direction, it is the straight line.
    """
    a, b = x_a.flatten().double(), x_b.flatten().double()
    cosine = (a @ b / (a.norm() * b.norm())).clamp(-1.0, 1.0)
    theta = float(torch.arccos(cosine))
    if not np.sin(theta) >= 1e-6 or share in (0.0, 1.0):  # theta is NaN if one of them is 0
        return mix(x_a, x_b, share)
    weights = np.sin([(1.0 - share) * theta, share * theta]) / np.sin(theta)
    return float(weights[0]) * x_a + float(weights[1]) * x_b
