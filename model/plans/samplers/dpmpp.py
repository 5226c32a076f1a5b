"""DPM-Solver++(2M): the second-order multistep solver in data prediction (Lu et al. 2022), without noise and with."""

import math

from ..schedule import NoiseSchedule
from .transition import Options, Transition, log_snr


def dpmpp(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = (sigma'/sigma) e^-n x_t + alpha' (1 - e^-(h + n)) ((1 + k/r) x0 - (k/r) x0_previous) + sigma' s z.

    h is the step in log signal-to-noise lambda = ln(alpha/sigma), r the step before it over h, n = eta h and
    s = (1 - e^-2n)^(1/2); for k see `_slope_weight`. With eta 0 this is algorithm 2 of the publication. With eta 1 it
    solves the stochastic equation of its SDE-DPM-Solver++(2M), whose first order is ancestral sampling; that solver has
    k = 1/2. The first step has no previous x0 and is of first order; the last one ends at sigma = 0, where the formula
    leaves x' = x0.
    """
    (alpha, sigma, lam), eta = log_snr(chain), options.settings.eta
    noisiest = chain.num_train_timesteps - 1
    rows = []
    for i in range(noisiest, 0, -1):
        h = lam[i - 1] - lam[i]
        before = math.inf if i == noisiest else lam[i] - lam[i + 1]  # infinite where nothing was left of the image
        n = eta * h if eta else 0.0  # h may be infinite, too
        gain = -alpha[i - 1] * math.expm1(-h - n)
        slope = h / before * _slope_weight(eta * before) if math.isfinite(before) else 0.0
        rows.append(
            Transition(
                level=i,
                a=sigma[i - 1] / sigma[i] * math.exp(-n),
                b=gain * (1 + slope),
                c=-gain * slope,
                s=sigma[i - 1] * math.sqrt(-math.expm1(-2 * n)),
            )
        )
    rows.append(Transition(0, a=0.0, b=1.0))
    return rows


def _slope_weight(n: float) -> float:
    """Returns k = (e^-n - 1 + n) / n^2, which is the integral of u e^-n(1-u) over u from 0 to 1; 1/2 without noise.

    Where x0 changes evenly along a step, its mean there lies half the change further. But the change between two calls
    also holds noise that entered x on the way, and only e^-n of that is left a step later. Extrapolated in full, it
    spreads images too far. So the change up to u counts by the share of its noise that is left at the end of the step.

    Args:
        n: eta times the step before, in lambda.
    """
    return (math.expm1(-n) + n) / n**2 if n > 1e-5 else 0.5 - n / 6
