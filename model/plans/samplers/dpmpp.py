"""DPM-Solver++(2M): the second-order multistep solver in data prediction (Lu et al. 2022), without noise and with."""

from __future__ import annotations

import math

from ..schedule import NoiseSchedule
from .log_snr import log_snr
from .transition import Options, Transition, eps_guidance


def dpmpp(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = (sigma'/sigma) e^-n x_t + alpha' (1 - e^-(h + n)) ((1 + 1/2r) x0 - (1/2r) x0_previous) + sigma' s z.

    h is the step in log signal-to-noise lambda = ln(alpha/sigma), r the step before it over h, n = eta h and
    s = (1 - e^-2n)^(1/2). With eta 0 this is algorithm 2 of the publication, and with eta 1 its SDE-DPM-Solver++(2M),
    which solves the stochastic equation whose first order is ancestral sampling. The first step has no previous x0 and
    is of first order; the last one ends at sigma = 0, where the formula leaves x' = x0.
    """
    alpha, sigma, lam = log_snr(chain)
    noisiest = chain.num_train_timesteps - 1
    rows = []
    for i in range(noisiest, 0, -1):
        h = lam[i - 1] - lam[i]
        n = options.eta * h if options.eta else 0.0  # h is infinite where nothing is left of the image
        gain = -alpha[i - 1] * math.expm1(-h - n)
        half = 0.0 if i == noisiest else h / (2 * (lam[i] - lam[i + 1]))  # 1 / 2r
        rows.append(
            Transition(
                level=i,
                a=sigma[i - 1] / sigma[i] * math.exp(-n),
                b=gain * (1 + half),
                c=-gain * half,
                s=sigma[i - 1] * math.sqrt(-math.expm1(-2 * n)),
                g=eps_guidance(float(chain.alphas_cumprod[i])),
            )
        )
    rows.append(Transition(0, a=0.0, b=1.0, g=eps_guidance(float(chain.alphas_cumprod[0]))))
    return rows
