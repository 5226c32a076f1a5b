"""From the noise in a photograph to the timestep whose x_t looks like it.

A noisy picture y = x0 + sigma z, scaled by sqrt(abar), has the distribution of x_t where sigma^2 = (1 - abar) / abar.
Sigma is in the unit of images here, whose range is [-1, 1]: one grey level of 0..255 is 1 / 127.5.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..errors import PlanError
from .schedule import NoiseSchedule


class NoiseLevel(NamedTuple):
    """Where a noisy picture enters the reverse process.

    Attributes:
        timestep: the least noisy one that is at least as noisy as the picture.
        top_up: standard deviation of the noise to be added, so that the picture is exactly as noisy as that.
        scale: sqrt(abar), which the picture is multiplied by then.
    """

    timestep: int
    top_up: float
    scale: float


def noise_level(schedule: NoiseSchedule, sigma: float, timestep: int | None = None) -> NoiseLevel:
    """Where a picture with noise of standard deviation `sigma` (in [-1, 1]) enters; a clean one at timestep 0.

    Args:
        timestep: where it should enter, if that is decided; the least noisy one possible if not.

    Raises:
        PlanError: if the schedule, or the timestep, is not as noisy as that, or so noisy that nothing of it would be
            left.
    """
    sigmas = schedule.sigmas
    if timestep is None:
        timestep = min(int(np.searchsorted(sigmas, sigma)), len(sigmas) - 1)
    reached = float(sigmas[timestep])
    if sigma > reached * (1 + 1e-9):
        raise PlanError(
            f"{sigma * 127.5:.4g} is more noise than timestep {timestep} has ({reached * 127.5:.4g})", "sigma"
        )
    if math.isinf(reached):
        raise PlanError(f"{timestep} leaves nothing of an image, so none can enter there", "t")
    top_up = math.sqrt(max(reached**2 - sigma**2, 0.0))
    return NoiseLevel(timestep, top_up, math.sqrt(schedule.alphas_cumprod[timestep]))
