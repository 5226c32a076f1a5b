"""The noise levels of diffusers' schedulers, as lists of `model.plans.spacing` (as of diffusers 0.42).

A scheduler chooses timesteps, and then its sigmas: those of the timesteps, or a grid between the ends of the schedule,
whose timesteps are rounded in some schedulers. So a call may be at another sigma than that of its timestep.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from difuso.model.plans.schedule import FloatTable, NoiseSchedule

GRIDS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
RHO = 7.0  # of Karras' grid
BETA = 0.6  # both parameters of the Beta distribution of "Beta Sampling is All You Need" (Lee et al. 2024)
SAME = 1e-6  # relative difference of sigmas that are the same


def timesteps_of(spacing: str, count: int, total: int, *, offset: int, above_first: bool) -> FloatTable:
    """Returns the timesteps of a spacing, rising.

    Args:
        spacing: `linspace`, `leading` or `trailing`.
        offset: what `leading` adds.
        above_first: whether the spacing has one timestep more, the first one of all, which is left out.
    """
    left_out = int(above_first)
    if spacing == "trailing":
        return np.flip(np.arange(total, 0, -total / count, dtype=np.float64)[:count].round() - 1)
    if spacing == "leading":
        return np.arange(left_out, count + left_out, dtype=np.float64) * (total // (count + left_out)) + offset
    timesteps: FloatTable = np.linspace(0, total - 1, count + left_out, dtype=np.float64)[left_out:]
    return timesteps.round() if above_first else timesteps


def steps_meet(spacing: str, count: int, total: int) -> bool:
    """Returns whether steps of total // count timesteps end where the next ones begin."""
    return spacing == "leading" or (spacing == "trailing" and total % count == 0)


def grid_of(
    content: Mapping[str, Any], lowest: float, highest: float, count: int, rho: float = RHO
) -> FloatTable | None:
    """Returns the sigmas that a config puts between two sigmas, rising; None if they are those of the timesteps."""
    ramp = np.linspace(0, 1, count)
    match next((name for name in GRIDS if content.get(name)), None):
        case None:
            return None
        case "use_karras_sigmas":
            low, high = lowest ** (1 / rho), highest ** (1 / rho)
            grid: FloatTable = (low + ramp * (high - low)) ** rho
            return grid
        case "use_beta_sigmas":
            return lowest + _beta_quantiles(ramp) * (highest - lowest)
    return np.geomspace(lowest, highest, count)  # use_lu_lambdas is even in ln sigma too


def as_list(schedule: NoiseSchedule, timesteps: FloatTable, sigmas: FloatTable, end: float | None) -> str:
    """Returns the levels of a run as a list.

    Args:
        timesteps, sigmas: those of the calls, rising.
        end: the sigma where the run ends; None for an image. A last call that would lead from there to there is left
            out.
    """
    if end is not None and sigmas[0] <= end * (1 + SAME):
        if len(sigmas) == 1:
            return as_list(schedule, timesteps, sigmas, None)
        timesteps, sigmas = timesteps[1:], sigmas[1:]
    entries = [] if end is None else [f"end@{end:.10f}"]
    with np.errstate(divide="ignore"):
        own = schedule.sigma_at(timesteps)
    for timestep, sigma, same in zip(timesteps, sigmas, np.isclose(own, sigmas, rtol=SAME, atol=0), strict=True):
        entries.append(f"{timestep:.6f}".rstrip("0").rstrip(".") + ("" if same else f"@{sigma:.10f}"))
    return "at:" + ",".join(entries)


def _beta_quantiles(shares: FloatTable) -> FloatTable:
    """Returns the quantiles of the Beta distribution, whose density is that of sin(a)^2 for angles a as below."""
    even = np.linspace(0, 1, 1_000_001)
    angles = np.pi / 2 * even**2 * (3 - 2 * even)  # closer at both ends, where the density changes fastest
    density = (np.sin(angles) * np.cos(angles)).clip(0) ** (2 * BETA - 1)
    below = np.append(0.0, np.cumsum((density[1:] + density[:-1]) * np.diff(angles)))
    quantiles: FloatTable = np.sin(np.interp(shares * below[-1], below, angles)) ** 2
    return quantiles
