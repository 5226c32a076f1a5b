"""Solvers whose steps have two calls: dpm2, dpm2_ancestral and dpmpp_2s.

The second call is at an x_t inside the step, x_m = p x + q x0, but the step goes on from its beginning. A row of the
table finds the beginning again from the x0 that the first call left: x = (x_m - q x0_previous) / p.
"""

import math

from ..schedule import NoiseSchedule
from .single_step import ddim
from .transition import LAST, Options, Transition, log_snr


def dpm2(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """y' = y + (sigma' - sigma) eps_m, of y = x / alpha: the midpoint rule over two levels of the chain.

    DPM-Solver-2 in the form of k-diffusion's `sample_dpm_2` (Karras et al. 2022, eq. 3; Lu et al. 2022,
    "DPM-Solver", algorithm 1). Every second level is inside a step, eps_m is the noise found there, and Euler's method
    leads there. The last step has one call, and with an even number of calls the one before it too.
    """
    alpha, sigmas, rows = [math.sqrt(abar) for abar in chain.alphas_cumprod], chain.sigmas, []
    euler = {row.level: row for row in ddim(chain, Options())}
    for i, is_second in _stages(chain.num_train_timesteps):
        if not is_second:
            rows.append(euler[i])
            continue
        p = sigmas[i] / sigmas[i + 1]
        slope = (sigmas[i - 1] - sigmas[i + 1]) / sigmas[i]
        signal = alpha[i - 1]
        rows.append(Transition(i, a=signal / alpha[i] * (1 / p + slope), b=-signal * slope, c=signal * (1 - 1 / p)))
    return rows


def dpm2_ancestral(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """y' = y + (sigma'^2/sigma - sigma) eps_m + sigma' (1 - sigma'^2/sigma^2)^(1/2) z, of y = x / alpha.

    k-diffusion's `sample_dpm_2_ancestral`: each step goes below its end, to sigma'^2 / sigma, and noise leads back. In
    ln sigma the end is the middle between there and the start, so the second call is at the end. The last step has one
    call, and with an even number of calls the first one too.
    """
    alpha, sigmas, rows = [math.sqrt(abar) for abar in chain.alphas_cumprod], chain.sigmas, []
    noisiest = chain.num_train_timesteps - 1
    for row, ancestral in zip(ddim(chain, Options()), ddim(chain, Options(eta=1.0)), strict=True):
        i = row.level
        if i == 0 or (i == noisiest and options.even):
            rows.append(ancestral)
            continue
        p = sigmas[i - 1] / sigmas[i]
        slope = (sigmas[i - 1] * p - sigmas[i]) / sigmas[i - 1]
        signal = alpha[i - 1]
        second = Transition(i - 1, a=1 / p + slope, b=-signal * slope, c=signal * (1 - 1 / p), s=ancestral.s)
        rows += [row, second]
    return rows


def dpmpp_2s(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = (sigma'/sigma) x + alpha' (1 - e^-h) ((1 - 1/(2r)) x0 + x0_m / (2r)), over two levels of the chain.

    DPM-Solver++(2S), the singlestep solver in data prediction (Lu et al. 2022, algorithm 1). h is the whole step in
    lambda, and r the share of it after which the second call is made. The last step has one call, and with an even
    number of calls the one before it too.
    """
    alpha, sigma, lam = log_snr(chain)
    euler = {row.level: row for row in ddim(chain, Options())}
    rows = []
    for i, is_second in _stages(chain.num_train_timesteps):
        if not is_second:
            rows.append(euler[i])
            continue
        h = lam[i - 1] - lam[i + 1]
        gain, half = -alpha[i - 1] * math.expm1(-h), h / (lam[i] - lam[i + 1]) / 2
        p, q = sigma[i] / sigma[i + 1], -alpha[i] * math.expm1(lam[i + 1] - lam[i])
        kept = sigma[i - 1] / sigma[i + 1] / p
        rows.append(Transition(i, a=kept, b=gain * half, c=gain * (1 - half) - kept * q))
    return [*rows[:-1], LAST]


def _stages(levels: int) -> list[tuple[int, bool]]:
    """Returns the levels of the calls in their order, and whether each is the second call of a step."""
    paired = levels - (2 if levels % 2 == 0 else 1)
    return [(levels - 1 - call, call < paired and call % 2 == 1) for call in range(levels)]
