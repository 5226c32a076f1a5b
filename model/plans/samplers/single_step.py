"""Samplers whose steps look at their own calls only: ddpm, ddim, lcm, heun and heun_flow."""

import math
from dataclasses import replace

import numpy as np

from ..schedule import FloatTable, NoiseSchedule
from .transition import Options, Transition, Variance, eps_guidance


def ddpm(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """Ancestral sampling: the mean of q(x_{t-1} | x_t, x0) plus noise; none at the last step.

    Ho et al. 2020, algorithm 2, on any respaced chain (Nichol & Dhariwal 2021, section 4). Guidance shifts the mean by
    variance * gradient (Dhariwal & Nichol 2021, algorithm 1); the same as shifting x0 by that over the weight of x0 in
    the mean.
    """
    rows = []
    for i in reversed(range(chain.num_train_timesteps)):
        deviation, learned = deviation_at(chain, i, options.variance)
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


def ddim(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = sqrt(abar') x0 + sqrt(1 - abar' - sigma^2) eps + sigma z (Song et al. 2021, eq. 12 and 16).

    eps is derived again from x_t and the clipped x0, as guided-diffusion does, which folds it into the two other
    terms: eps = (x_t - sqrt(abar) x0) / sqrt(1 - abar). Or it is kept as the network predicted it, as in diffusers.
    """
    rows = []
    for i in reversed(range(chain.num_train_timesteps)):
        abar, abar_prev = float(chain.alphas_cumprod[i]), float(chain.alphas_cumprod_prev[i])
        sigma = options.eta * math.sqrt((1 - abar_prev) / (1 - abar)) * math.sqrt(1 - abar / abar_prev)
        signal, spread = math.sqrt(abar_prev), math.sqrt(max(1 - abar_prev - sigma**2, 0.0))
        a = spread / math.sqrt(1 - abar)
        b = signal - a * math.sqrt(abar)
        if options.keep_eps:
            # Guidance shifts eps too, which this row cannot: x0 alone moves x' as far as both would.
            rows.append(Transition(i, a=0.0, b=signal, e=spread, s=sigma, g=eps_guidance(abar) * b / signal))
        else:
            rows.append(Transition(i, a=a, b=b, s=sigma))
    return rows


def lcm(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = sqrt(abar') x0 + sqrt(1 - abar') z: to the clean image of each call, which is noised anew.

    For distilled networks, whose x0 is an image (Song et al. 2023, "Consistency Models", algorithm 1; Luo et al. 2023).
    The factors c_skip and c_out of x_t and x0 are left out: with those of diffusers they are 0 and 1, to 1e-6, from
    timestep 50 on.
    """
    abar = chain.alphas_cumprod_prev
    signal, spread = np.sqrt(abar).tolist(), np.sqrt(1 - abar).tolist()
    return [Transition(i, a=0.0, b=signal[i], s=spread[i]) for i in reversed(range(len(abar)))]


def heun(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """An Euler step, which is DDIM's, and where there is a level to stand on a second call that corrects it.

    Karras et al. 2022, algorithm 1, on the probability-flow ODE. With y = x / sqrt(abar), the correction averages the
    slopes (y - x0) / sigma at both ends of the step. Written out, the start of the step cancels, so that a row of the
    table can hold it:

        y' += (sigma / sigma' - 1) / 2 * (x0 - x0_previous)

    The last step, to sigma = 0, has no slope at its end. An even number of calls leaves out one correction more: that
    of the first step, where the path is straightest.
    """
    return _heun(chain, options, np.sqrt(chain.alphas_cumprod), chain.sigmas)


def heun_flow(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """`heun` for rectified flow, whose steps are straight in its time s: y = x / (sqrt(abar) + sqrt(1 - abar))."""
    spread = np.sqrt(1 - chain.alphas_cumprod)
    scale = np.sqrt(chain.alphas_cumprod) + spread
    return _heun(chain, options, scale, spread / scale)


def _heun(chain: NoiseSchedule, options: Options, scale: FloatTable, noise: FloatTable) -> list[Transition]:
    """Returns the rows of steps that are straight in the noise of y = x / scale."""
    rows = []
    for step in ddim(chain, replace(options, keep_eps=False)):
        i = step.level
        rows.append(step)
        left_out = i == chain.num_train_timesteps - 1 and options.even
        if i > 0 and not left_out:
            weight = float(0.5 * scale[i - 1] * (noise[i] / noise[i - 1] - 1))
            rows.append(Transition(i - 1, a=1.0, b=weight, c=-weight))
    return rows
