"""Multistep solvers, whose steps extrapolate from the predictions of the calls before: dpmpp and its kin, and unipc."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..schedule import NoiseSchedule
from .transition import LAST, Options, Transition, log_snr


def _slope_weight(n: float) -> float:
    """Returns k = (e^-n - 1 + n) / n^2, which is the integral of u e^-n(1-u) over u from 0 to 1; 1/2 without noise.

    n is eta times the step before, in lambda. Of the change between two calls, noise that entered x on the way is a
    part, and only e^-n of that is left a step later. So the change up to u counts by the share that is left at the
    step's end.
    """
    return (math.expm1(-n) + n) / n**2 if n > 1e-5 else 0.5 - n / 6


def dpmpp(
    chain: NoiseSchedule, options: Options, slope_weight: Callable[[float], float] = _slope_weight
) -> list[Transition]:
    """x' = (sigma'/sigma) e^-n x_t + alpha' (1 - e^-(h + n)) ((1 + k/r) x0 - (k/r) x0_previous) + sigma' s z.

    DPM-Solver++(2M): the second-order solver in data prediction (Lu et al. 2022), without noise and with. h is the step
    in log signal-to-noise lambda = ln(alpha/sigma), r the step before it over h, n = eta h and
    s = (1 - e^-2n)^(1/2); for k see `_slope_weight`. With eta 0 this is algorithm 2 of the publication. With eta 1 it
    solves the stochastic equation of its SDE-DPM-Solver++(2M), whose first order is ancestral sampling; that solver has
    k = 1/2. The first step has no previous x0 and is of first order; the last one ends at sigma = 0, where the formula
    leaves x' = x0.
    """
    (alpha, sigma, lam), eta = log_snr(chain), options.eta
    noisiest = chain.num_train_timesteps - 1
    rows = []
    for i in range(noisiest, 0, -1):
        h = lam[i - 1] - lam[i]
        before = math.inf if i == noisiest else lam[i] - lam[i + 1]  # infinite where nothing was left of the image
        n = eta * h if eta else 0.0  # h may be infinite, too
        gain = -alpha[i - 1] * math.expm1(-h - n)
        slope = h / before * slope_weight(eta * before) if math.isfinite(before) else 0.0
        rows.append(
            Transition(
                level=i,
                a=sigma[i - 1] / sigma[i] * math.exp(-n),
                b=gain * (1 + slope),
                c=-gain * slope,
                s=sigma[i - 1] * math.sqrt(-math.expm1(-2 * n)),
            )
        )
    return [*rows, LAST]


def dpmpp_sde(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """SDE-DPM-Solver++(2M) as its authors have it (Lu et al. 2022, appendix): `dpmpp` with eta 1 and k = 1/2."""
    return dpmpp(chain, replace(options, eta=1.0), lambda n: 0.5)


def dpmpp_3m(chain: NoiseSchedule, options: Options, *, last: int = 2) -> list[Transition]:
    """x' = (sigma'/sigma) x_t + alpha' ((1 - e^-h) x0 + ((e^-h - 1) / h + 1) D1 - ((e^-h - 1 + h) / h^2 - 1/2) D2).

    DPM-Solver++(3M), of third order (Lu et al. 2022, appendix B). h is the step in lambda. From the x0 of three calls,
    D1 is the first derivative of x0 in lambda times h, and D2 half the second one times h^2, with the weights of the
    authors' code and diffusers. The first step is of first order. The second one, and with `last` 2 that before the
    last, are of second order, in the form of DPM-Solver++(2M). The last one ends at sigma = 0, where x' = x0.
    """
    alpha, sigma, lam = levels = log_snr(chain)
    rows = []
    for i in range(chain.num_train_timesteps - 1, 0, -1):
        h = lam[i - 1] - lam[i]
        weights = np.array([-math.expm1(-h), 0.0, 0.0])  # of x0, x0_previous and x0_before
        order = levels.order(i, 3 if i > 1 else last)
        if order > 1:
            r0 = (lam[i] - lam[i + 1]) / h
            slope = np.array([1.0, -1.0, 0.0]) / r0
        if order == 2:
            weights += 0.5 * weights[0] * slope
        elif order == 3:
            r1 = (lam[i + 1] - lam[i + 2]) / h
            bend = slope - np.array([0.0, 1.0, -1.0]) / r1
            weights += (math.expm1(-h) / h + 1) * (slope + r0 / (r0 + r1) * bend)
            weights -= ((math.expm1(-h) + h) / h**2 - 0.5) * bend / (r0 + r1)
        b, c, d = (alpha[i - 1] * weights).tolist()
        rows.append(Transition(i, a=sigma[i - 1] / sigma[i], b=b, c=c, d=d))
    return [*rows, LAST]


def unipc(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """Corrects each x_t once the network was called there, and predicts the next one from the corrected x_t.

    UniPC of second order with B(h) = e^h - 1, in data prediction (Zhao et al. 2023, algorithms 5 to 8). The correction
    is a sum of x0 of the last three calls, so one row holds it and the prediction that follows. The last step ends at
    sigma = 0, where x' = x0.
    """
    alpha, sigma, lam = levels = log_snr(chain)
    rows = []
    correction = np.zeros(3)
    for i in range(chain.num_train_timesteps - 1, 0, -1):
        h = lam[i - 1] - lam[i]
        gain = -alpha[i - 1] * math.expm1(-h)
        # Weights in the predicted x' of the x0 of this call, of the call before, and of the one before that; and in the
        # correction of x', after the call there, of the x0 of that call, this one and the one before.
        predictor = np.array([gain, 0.0, 0.0])
        corrector = np.array([1.0, -1.0, 0.0]) * 0.5 * gain
        if levels.order(i, 2) == 2:
            r = (lam[i + 1] - lam[i]) / h  # negative: the level before lies on the other side
            slope = np.array([-1.0, 1.0, 0.0]) / r
            predictor += 0.5 * gain * slope
            # Two weights, so that the correction is exact for an x0 that is linear and one that is quadratic in lambda.
            linear = (1 + math.expm1(-h) / h) / -math.expm1(-h)
            quadratic = 2 * ((1 + math.expm1(-h) / h) / h - 0.5) / math.expm1(-h)
            own = (linear - quadratic) / (1 - r)
            corrector = gain * (own - 0.5) * np.roll(slope, 1) + gain * (linear - own) * np.array([1.0, -1.0, 0.0])
        a = sigma[i - 1] / sigma[i]
        b, c, d = (a * correction + predictor).tolist()
        rows.append(Transition(i, a=a, b=b, c=c, d=d))
        correction = corrector
    return [*rows, LAST]
