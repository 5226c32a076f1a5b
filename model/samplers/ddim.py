"""Denoising diffusion implicit models (Song et al. 2021, eq. 12 and 16)."""

from __future__ import annotations

import math

from ..schedule import NoiseSchedule
from .transition import Transition


def ddim(chain: NoiseSchedule, *, eta: float, variance: str) -> list[Transition]:
    """x' = sqrt(abar') x0 + sqrt(1 - abar' - sigma^2) eps + sigma z.

    eps is derived again from x_t and the clipped x0, as guided-diffusion does, which folds it into the two other
    terms: eps = (x_t - sqrt(abar) x0) / sqrt(1 - abar).
    """
    rows = []
    for abar, abar_prev in zip(chain.alphas_cumprod, chain.alphas_cumprod_prev, strict=True):
        sigma = eta * math.sqrt((1 - abar_prev) / (1 - abar)) * math.sqrt(1 - abar / abar_prev)
        a = math.sqrt(max(1 - abar_prev - sigma**2, 0.0) / (1 - abar))
        rows.append(Transition(a=a, b=math.sqrt(abar_prev) - a * math.sqrt(abar), s=sigma))
    return rows
