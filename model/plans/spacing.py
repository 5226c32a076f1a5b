"""Which noise levels a run visits: timesteps by several rules, grids of sigma between timesteps, or a list."""

import itertools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import PlanError
from .schedule import NoiseSchedule

KARRAS = "karras"
KARRAS_RHO = 7.0
# Where a Karras grid begins at most. The last sigma of the cosine schedule is 20,291, so that of 13 levels eight would
# lie where nothing of an image is left. This is the limit of diffusers' solvers (lambda_min_clipped of -5.1), a little
# above the last sigma of DDPM's linear schedule.
KARRAS_SIGMA_MAX = math.exp(5.1)
EXPONENTIAL = "exponential"
# Where an exponential grid ends, and where all but its first level begin at most. Below sigma = 0.02 a step changes two
# or three grey levels, which no eye sees; above 40 hardly anything of an image is left.
EXPONENTIAL_SIGMAS = (0.02, 40.0)
_SIGMA = r"@[0-9]{1,6}(\.[0-9]{1,10})?"
_CALL = rf"[0-9]{{1,6}}(\.[0-9]{{1,6}})?({_SIGMA})?"
LISTED = re.compile(rf"at:(end{_SIGMA},)?{_CALL}(,{_CALL}){{0,99}}")


class Levels(NamedTuple):
    """Noise levels, least noisy first."""

    timesteps: tuple[float, ...]  # those of the network's calls; integers, except on a grid of sigma and in a list
    chain: NoiseSchedule  # the schedule that has just these levels


def visit_levels(schedule: NoiseSchedule, spacing: str, count: int, *, start: int | None = None) -> Levels:
    """The levels of a run that visits `count` of them.

    Args:
        schedule: that of the network's training.
        spacing: see `space_timesteps`; or `exponential` or `karras`, whose levels lie between timesteps; or all
            timesteps, which may be fractional, as in `at:12.5,160,999`. There a timestep may have a noise level of its
            own, as in `at:12.5@0.07,160,999`, and the run one to end at: `at:end@0.02,12.5@0.07,160,999`.
        count: 1..T, or 1..start+1. A single one is the noisiest, whatever the spacing.
        start: the noisiest timestep instead of T-1, visited whatever the spacing.

    Raises PlanError if there are no such levels; the message names the parameter and its limits.
    """
    total = timesteps_from(schedule, start)
    if not 1 <= count <= total:
        raise PlanError(f"must lie between 1 and {total}", "steps", got=count)
    if spacing == EXPONENTIAL:
        return _exponential_levels(schedule, count, total - 1)
    if spacing == KARRAS:
        return _karras_levels(schedule, count, total - 1)
    if (listed := listed_timesteps(spacing)) is not None:
        return _listed_levels(schedule, spacing, listed, count, start)
    timesteps = space_timesteps(spacing, count, total)
    if start is not None or count == 1:  # pure noise is an x_t of the last timestep alone
        timesteps = (*timesteps[:-1], total - 1)
    elif schedule.alphas_cumprod[-1] == 0 and timesteps[-1] != total - 1:
        raise PlanError(
            f"{spacing} does not begin at {total - 1}, where this model's noise leaves nothing of the image: choose "
            "trailing",
            "spacing",
        )
    return Levels(timesteps, schedule.respace(timesteps))


def timesteps_from(schedule: NoiseSchedule, start: int | None) -> int:
    """The number of timesteps that a run chooses from; raises PlanError if start is not a timestep."""
    total = schedule.num_train_timesteps
    if start is None:
        return total
    if not 0 <= start < total:
        raise PlanError(f"must lie between 0 and {total - 1}", "start", got=start)
    return start + 1


def space_timesteps(spacing: str, steps: int, total: int) -> tuple[int, ...]:
    """Strictly increasing timesteps, exactly `steps` of the `total`.

    `linspace` has both ends, `leading` starts at 0, `trailing` ends at T-1, and `quad` has both ends and is dense where
    there is little noise. Raises PlanError for another spacing.
    """
    if spacing not in SPACINGS:
        known = f"choose one of {', '.join(RULES)}, or a list such as at:12.5,160,999"
        raise PlanError(f"{spacing!r} is not known: {known}", "spacing")
    return tuple(SPACINGS[spacing](steps, total))


def _linspace(steps: int, total: int) -> list[int]:
    # Both ends included; a cumulative float and banker's rounding, as improved-diffusion's space_timesteps does,
    # so that the lists are the published ones.
    stride = (total - 1) / (steps - 1) if steps > 1 else 1.0
    position, taken = 0.0, []
    for _ in range(steps):
        taken.append(round(position))
        position += stride
    return taken


def _leading(steps: int, total: int) -> list[int]:
    # The published lists where steps divides total. Elsewhere diffusers keeps the stride total // steps and begins too
    # late (501 of 1000 steps would begin at 500, where pure noise is no x_t); this one stays even.
    return [i * total // steps for i in range(steps)]


def _trailing(steps: int, total: int) -> list[int]:
    return [total - 1 - round(i * total / steps) for i in reversed(range(steps))]


def _quad(steps: int, total: int) -> list[int]:
    # DDIM's list for CIFAR-10 but for two flaws of its code: this one reaches T-1 (not 0.8 T) and repeats no timestep.
    taken = [0]
    for i in range(1, steps):
        taken.append(max(round((total - 1) * (i / (steps - 1)) ** 2), taken[-1] + 1))
    return taken


SPACINGS: dict[str, Callable[[int, int], list[int]]] = {
    "linspace": _linspace,
    "leading": _leading,
    "trailing": _trailing,
    "quad": _quad,
}
RULES = (*SPACINGS, EXPONENTIAL, KARRAS)


def listed_timesteps(spacing: str) -> tuple[float, ...] | None:
    """Returns the timesteps of a list; None for the name of a rule."""
    if not LISTED.fullmatch(spacing):
        return None
    calls = spacing.removeprefix("at:").split(",")[ends_at_noise(spacing) :]
    return tuple(float(call.partition("@")[0]) for call in calls)


def ends_at_noise(spacing: str) -> bool:
    """Returns whether a run over a list of levels ends at a noise level, and not at an image without noise."""
    return spacing.startswith("at:end")


def _listed_levels(
    schedule: NoiseSchedule, spacing: str, timesteps: tuple[float, ...], count: int, start: int | None
) -> Levels:
    """The levels of a list, and below them the one where it ends.

    A call is at the noise level of its timestep, or at the sigma after its @. With a start this is the noisiest level,
    and the others must lie below it.
    """
    ends = ends_at_noise(spacing)
    listed = [float(entry.partition("@")[2] or "nan") for entry in spacing.removeprefix("at:").split(",")]
    if start is not None:
        timesteps, listed = (*timesteps[:-1], float(start)), [*listed[:-1], math.nan]
    last = schedule.num_train_timesteps - 1
    if len(listed) != count:
        raise PlanError(f"must list the {count - ends} noise levels of the run", "spacing", got=len(timesteps))
    sigmas = np.array(listed)
    if ends:
        timesteps = (float(schedule.timestep_at(sigmas[:1])[0]), *timesteps)
    below = math.isnan(listed[-1]) and timesteps[-1] < last
    if below and not schedule.alphas_cumprod[-1] and not schedule.continuous:
        raise PlanError(
            f"must end its list at {last}, where this model's noise leaves nothing of the image; or choose trailing",
            "spacing",
        )
    sigmas = np.where(np.isnan(sigmas), schedule.sigma_at(np.array(timesteps)), sigmas)
    if any(a >= b for a, b in itertools.pairwise(sigmas)) or max(timesteps) > last:
        raise PlanError(f"must list rising timesteps between 0 and {last if start is None else start}", "spacing")
    return Levels(timesteps, NoiseSchedule.from_alphas_cumprod(1.0 / (1.0 + sigmas**2)))


def _exponential_levels(schedule: NoiseSchedule, count: int, last: int) -> Levels:
    """Levels whose ln sigma, and so their log-SNR, are evenly spaced (Lu et al. 2022, "DPM-Solver"), from 40 to 0.02.

    The first is `last` all the same: pure noise is an x_t there and nowhere else.
    """
    highest = float(schedule.sigmas[last])
    least, most = EXPONENTIAL_SIGMAS
    lowest = max(float(schedule.sigmas[0]), min(least, highest / 2))
    # No timestep lies between the last one and pure noise, unless timesteps are continuous.
    reached = highest if np.isfinite(highest) or schedule.continuous else float(schedule.sigmas[max(last - 1, 0)])
    sigmas = np.geomspace(lowest, min(most, reached), count, dtype=np.float64)[:-1]
    timesteps = (*map(float, schedule.timestep_at(sigmas)), float(last))
    abar = np.append(1.0 / (1.0 + sigmas**2), schedule.alphas_cumprod[last])
    return Levels(timesteps, NoiseSchedule.from_alphas_cumprod(abar))


def _karras_levels(schedule: NoiseSchedule, count: int, last: int) -> Levels:
    """Levels whose sigma^(1/7) are evenly spaced between the ends (Karras et al. 2022, eq. 5), from `last`.

    From the last timestep of the schedule a run begins with pure noise, which has no level of its own to begin at.
    """
    lowest, highest = schedule.sigmas[0], schedule.sigmas[last]
    if not np.isfinite(highest) and not schedule.continuous:
        raise PlanError(
            "karras needs a little of the image at its noisy end; choose trailing for this model", "spacing"
        )
    if last == schedule.num_train_timesteps - 1:
        highest = min(highest, KARRAS_SIGMA_MAX)
    return karras_levels_between(schedule, lowest if count > 1 else highest, highest, count)


def karras_levels_between(schedule: NoiseSchedule, lowest: float, highest: float, count: int) -> Levels:
    """Returns `count` levels of Karras' grid from one sigma of the schedule to a higher one, both included."""
    roots = np.linspace(lowest ** (1 / KARRAS_RHO), highest ** (1 / KARRAS_RHO), count, dtype=np.float64)
    sigmas = roots**KARRAS_RHO
    sigmas[0], sigmas[-1] = lowest, highest  # not to leave the schedule by a rounding error
    timesteps = tuple(float(t) for t in schedule.timestep_at(sigmas))
    return Levels(timesteps, NoiseSchedule.from_alphas_cumprod(1.0 / (1.0 + sigmas**2)))
