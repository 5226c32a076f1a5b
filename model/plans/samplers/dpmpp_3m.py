"""DPM-Solver++(3M): the third-order multistep solver in data prediction (Lu et al. 2022, appendix B)."""

import math

import numpy as np

from ..schedule import NoiseSchedule
from .transition import Options, Transition, log_snr


def dpmpp_3m(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = (sigma'/sigma) x_t + alpha' ((1 - e^-h) x0 + ((e^-h - 1) / h + 1) D1 - ((e^-h - 1 + h) / h^2 - 1/2) D2).

    h is the step in lambda. From the x0 of three calls, D1 is the first derivative of x0 in lambda times h, and
    D2 half the second one times h^2, with the weights of the authors' code and diffusers. The first step is of first
    order. The second one and that before the last are of second order, in the form of DPM-Solver++(2M). The last one
    ends at sigma = 0, where x' = x0.
    """
    alpha, sigma, lam = levels = log_snr(chain)
    rows = []
    for i in range(chain.num_train_timesteps - 1, 0, -1):
        h = lam[i - 1] - lam[i]
        weights = np.array([-math.expm1(-h), 0.0, 0.0])  # of x0, x0_previous and x0_before
        order = levels.order(i, 3)
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
    rows.append(Transition(0, a=0.0, b=1.0))
    return rows
