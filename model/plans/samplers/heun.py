"""Heun's second-order method on the probability-flow ODE (Karras et al. 2022, algorithm 1)."""

import math
from dataclasses import replace

from ..schedule import NoiseSchedule
from .ddim import ddim
from .transition import Options, Transition


def heun(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """An Euler step, which is DDIM's, and where there is a level to stand on a second call that corrects it.

    With y = x / sqrt(abar), the correction averages the slopes (y - x0) / sigma at both ends of the step. Written out,
    the start of the step cancels, so that a row of the table can hold it:

        y' += (sigma / sigma' - 1) / 2 * (x0 - x0_previous)

    The last step, to sigma = 0, has no slope at its end. An even number of calls leaves out one correction more: that
    of the first step, where the path is straightest.
    """
    sigmas = chain.sigmas
    rows = []
    for step in ddim(chain, replace(options, keep_eps=False)):
        i = step.level
        rows.append(step)
        left_out = i == chain.num_train_timesteps - 1 and options.settings.steps % 2 == 0
        if i > 0 and not left_out:
            weight = 0.5 * math.sqrt(chain.alphas_cumprod[i - 1]) * (sigmas[i] / sigmas[i - 1] - 1)
            rows.append(Transition(i - 1, a=1.0, b=weight, c=-weight))
    return rows
