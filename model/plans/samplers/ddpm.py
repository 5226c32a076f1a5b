"""Ancestral sampling (Ho et al. 2020, algorithm 2), on any respaced chain (Nichol & Dhariwal 2021, section 4)."""

import math

from ..schedule import NoiseSchedule
from . import Variance
from .transition import Options, Transition


def ddpm(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """The mean of q(x_{t-1} | x_t, x0) plus noise; none at the last step.

    Guidance shifts the mean by variance * gradient (Dhariwal & Nichol 2021, algorithm 1); the same as shifting x0 by
    that over the weight of x0 in the mean.
    """
    rows = []
    for i in reversed(range(chain.num_train_timesteps)):
        deviation, learned = deviation_at(chain, i, options.settings.variance)
        weight = float(chain.posterior_mean_coef1[i])
        rows.append(
            Transition(
                level=i,
                a=float(chain.posterior_mean_coef2[i]),
                b=weight,
                s=deviation if i > 0 else 0.0,
                v=learned,
                g=deviation**2 / weight if weight else 0.0,
            )
        )
    return rows


def deviation_at(chain: NoiseSchedule, i: int, variance: Variance) -> tuple[float, float]:
    """(s, v) of the standard deviation s exp(v f) at a level, with f = (output + 1) / 2.

    `fixed_small` takes the posterior variance (optimal for x0 that is a point), `fixed_large` takes beta (optimal for
    x0 ~ N(0, I)); Ho et al. 2020, section 3.2. `learned_range` goes from the one to the other with f (Nichol & Dhariwal
    2021, eq. 15); the output of `learned` is the logarithm of the variance. All are those of the respaced chain. At
    level 0, where the posterior variance is 0, small means that of level 1.
    """
    small, large = float(chain.posterior_variance_clipped[i]), float(chain.betas[i])
    match variance:
        case "learned_range":
            return math.sqrt(small), 0.5 * math.log(large / small)
        case "learned":
            return math.exp(-0.5), 1.0  # exp(output / 2)
        case "fixed_large" if i > 0:
            return math.sqrt(large), 0.0
    return math.sqrt(small), 0.0
