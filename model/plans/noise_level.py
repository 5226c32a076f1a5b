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

GREY_LEVEL = 1 / 127.5  # in the unit of images, whose range is [-1, 1]
ROUNDING = 1e-12  # relative; so that the sigma of a timestep leads back to it


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
    sought = timestep is None
    if timestep is None:
        timestep = min(int(np.searchsorted(sigmas, sigma * (1 - ROUNDING))), len(sigmas) - 1)
    reached = float(sigmas[timestep])
    got = f"{sigma / GREY_LEVEL:.4g}"
    if sigma > reached * (1 + 1e-9):
        raise PlanError(
            f"is more noise than timestep {timestep} has, which is {reached / GREY_LEVEL:.4g}", "sigma", got=got
        )
    if math.isinf(reached) and sought:
        raise PlanError("is more noise than any timestep has that leaves something of an image", "sigma", got=got)
    if math.isinf(reached):
        raise PlanError(f"{timestep} leaves nothing of an image, so none can enter there", "t")
    top_up = math.sqrt(max(reached**2 - sigma**2, 0.0))
    return NoiseLevel(timestep, top_up, math.sqrt(schedule.alphas_cumprod[timestep]))
