"""DPM-Solver++(2M): the second-order multistep solver in data prediction (Lu et al. 2022, algorithm 2)."""

from __future__ import annotations

import math

from ..schedule import NoiseSchedule
from .log_snr import log_snr
from .transition import Options, Transition, eps_guidance


def dpmpp(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = (sigma'/sigma) x_t - alpha' (e^-h - 1) ((1 + 1/2r) x0 - (1/2r) x0_previous).

    h is the step in log signal-to-noise lambda = ln(alpha/sigma) and r the step before it over h. The first step has no
    previous x0 and is of first order; the last one ends at sigma = 0, where the formula leaves x' = x0.
    """
    alpha, sigma, lam = log_snr(chain)
    noisiest = chain.num_train_timesteps - 1
    rows = []
    for i in range(noisiest, 0, -1):
        h = lam[i - 1] - lam[i]
        gain = -alpha[i - 1] * math.expm1(-h)
        half = 0.0 if i == noisiest else h / (2 * (lam[i] - lam[i + 1]))  # 1 / 2r
        guidance = eps_guidance(float(chain.alphas_cumprod[i]))
        rows.append(Transition(i, a=sigma[i - 1] / sigma[i], b=gain * (1 + half), c=-gain * half, g=guidance))
    rows.append(Transition(0, a=0.0, b=1.0, g=eps_guidance(float(chain.alphas_cumprod[0]))))
    return rows
