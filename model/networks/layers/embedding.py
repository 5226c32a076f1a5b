"""The embedding of timesteps as vectors."""

import math

import torch
from torch import Tensor

from ..configs import TimeOrder


def sinusoidal_embedding(t: Tensor, dim: int, *, order: TimeOrder = "sin_cos", freq_shift: int = 0) -> Tensor:
    """Returns sines and cosines of t at geometric frequencies 1 ... 1/10000 (Vaswani et al. 2017, section 3.5).

    They are float32, shape (B, dim).

    Args:
        t: timesteps, shape (B,), any number type.
        dim: length of the vectors, an even number.
        order: which half comes first.
        freq_shift: frequency i of half = dim / 2 is 10000^(-i / (half - freq_shift)); with 1 the last is 1/10000.
    """
    half = dim // 2
    exponents = -math.log(10000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / (half - freq_shift)
    angles = t.float()[:, None] * torch.exp(exponents)
    halves = [angles.sin(), angles.cos()]
    return torch.cat(halves if order == "sin_cos" else halves[::-1], dim=1)
