"""Denoising diffusion implicit models (Song et al. 2021, eq. 12 and 16)."""

import math

from ..schedule import NoiseSchedule
from .transition import Options, Transition, eps_guidance


def ddim(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = sqrt(abar') x0 + sqrt(1 - abar' - sigma^2) eps + sigma z.

    eps is derived again from x_t and the clipped x0, as guided-diffusion does, which folds it into the two other
    terms: eps = (x_t - sqrt(abar) x0) / sqrt(1 - abar). Or it is kept as the network predicted it, as in diffusers.
    """
    rows = []
    for i in reversed(range(chain.num_train_timesteps)):
        abar, abar_prev = float(chain.alphas_cumprod[i]), float(chain.alphas_cumprod_prev[i])
        sigma = options.settings.eta * math.sqrt((1 - abar_prev) / (1 - abar)) * math.sqrt(1 - abar / abar_prev)
        signal, spread = math.sqrt(abar_prev), math.sqrt(max(1 - abar_prev - sigma**2, 0.0))
        a = spread / math.sqrt(1 - abar)
        b = signal - a * math.sqrt(abar)
        if options.keep_eps:
            # Guidance shifts eps too, which this row cannot: x0 alone moves x' as far as both would.
            rows.append(Transition(i, a=0.0, b=signal, e=spread, s=sigma, g=eps_guidance(abar) * b / signal))
        else:
            rows.append(Transition(i, a=a, b=b, s=sigma))
    return rows
