"""Ancestral sampling (Ho et al. 2020, algorithm 2), on any respaced chain (Nichol & Dhariwal 2021, section 4)."""

from __future__ import annotations

import math

from ..schedule import NoiseSchedule
from .transition import Transition


def ddpm(chain: NoiseSchedule, *, eta: float, variance: str) -> list[Transition]:
    """The mean of q(x_{t-1} | x_t, x0) plus noise; none at the last step.

    `fixed_small` takes the posterior variance (optimal for x0 that is a point), `fixed_large` takes beta (optimal for
    x0 ~ N(0, I)); Ho et al. 2020, section 3.2. Both are those of the respaced chain.
    """
    variances = chain.betas if variance == "fixed_large" else chain.posterior_variance
    return [
        Transition(
            a=float(chain.posterior_mean_coef2[i]),
            b=float(chain.posterior_mean_coef1[i]),
            s=math.sqrt(variances[i]) if i > 0 else 0.0,
        )
        for i in range(chain.num_train_timesteps)
    ]
