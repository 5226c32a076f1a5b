"""Timesteps as vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_embedding(t: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of t at geometric frequencies 1 ... 1/10000 (Vaswani et al. 2017, section 3.5).

    Args:
        t: timesteps, shape (B,), any number type.
        dim: even.

    Returns:
        float32, shape (B, dim).
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
