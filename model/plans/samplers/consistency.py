"""Multistep consistency sampling (Song et al. 2023, algorithm 1), for networks trained with `loss = "consistency"`."""

import math

from ..schedule import NoiseSchedule
from .transition import Options, Transition


def consistency(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = sqrt(abar') x0 + sqrt(1 - abar') z: each call predicts the image, and new noise takes it to the next level.

    The prediction of the last call is the image.
    """
    rows = []
    for i in reversed(range(chain.num_train_timesteps)):
        abar_prev = float(chain.alphas_cumprod_prev[i])
        rows.append(Transition(i, a=0.0, b=math.sqrt(abar_prev), s=math.sqrt(1 - abar_prev)))
    return rows
