"""The noise levels of diffusers' schedulers, as lists of `model.plans.spacing` (as of diffusers 0.42).

A scheduler chooses timesteps, and then its sigmas: those of the timesteps, or a grid between the ends of the schedule,
whose timesteps are rounded in some schedulers. So a call may be at another sigma than that of its timestep.
"""

import math
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
    """Returns the quantiles of the Beta distribution, by bisection of its distribution function."""
    low, high = np.zeros_like(shares), np.ones_like(shares)
    for _ in range(60):
        middle = (low + high) / 2
        below = _beta_distribution(middle) < shares
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(shares < 1, low, 1.0)


def _beta_distribution(x: FloatTable) -> FloatTable:
    """Returns the share of the Beta distribution below x, by its series (NIST DLMF 8.17.7); it is symmetric."""
    small = np.minimum(x, 1 - x)
    n = np.arange(80)
    terms = np.cumprod(np.append(1.0, (n[1:] - BETA) / n[1:])) / (BETA + n)  # of (1 - x)^(BETA - 1)
    whole = math.gamma(BETA) ** 2 / math.gamma(2 * BETA)
    share = small**BETA * (small[..., None] ** n * terms).sum(axis=-1) / whole
    return np.where(x <= 0.5, share, 1 - share)
