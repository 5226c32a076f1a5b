"""Finds the timestep whose x_t is as noisy as an image.

A noisy image y = x0 + sigma z, scaled by sqrt(abar), has the distribution of x_t where sigma^2 = (1 - abar) / abar.
Sigma is in the unit of images, whose range is [-1, 1]: one grey level of 0..255 is 1 / 127.5.
"""

import math
from typing import NamedTuple

import numpy as np

from ..errors import PlanError
from .schedule import NoiseSchedule

GREY_LEVEL = 1 / 127.5  # in the unit of images, whose range is [-1, 1]
ROUNDING = 1e-12  # relative tolerance, so that the sigma of a timestep leads back to that timestep


class NoiseLevel(NamedTuple):
    """The place where a noisy image enters the reverse process."""

    timestep: int  # the timestep at which the image enters
    top_up: float  # standard deviation of the noise that makes the image as noisy as this timestep
    scale: float  # sqrt(abar), by which the image is multiplied after the noise is added


def noise_level(schedule: NoiseSchedule, sigma: float, timestep: int | None = None) -> NoiseLevel:
    """Returns where a noisy image enters the reverse process, at the least noisy timestep possible or at the given one.

    Sigma is the standard deviation of its noise, in the unit of images. Raises PlanError if the schedule, or the
    timestep, is less noisy than the image, or leaves nothing of an image.
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
        raise PlanError("is more noise than at any timestep that leaves something of an image", "sigma", got=got)
    if math.isinf(reached):
        raise PlanError(f"{timestep} leaves nothing of an image, so no image can enter there", "t")
    top_up = math.sqrt(max(reached**2 - sigma**2, 0.0))
    return NoiseLevel(timestep, top_up, math.sqrt(schedule.alphas_cumprod[timestep]))
