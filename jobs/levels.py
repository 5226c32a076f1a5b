"""How noisy each timestep of a model is, without torch: front ends must know at which timestep a noisy picture enters.

The one formula of the science that is written twice; a test holds both to the same numbers.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from itertools import accumulate, pairwise

from pydantic import BaseModel, ConfigDict, Field

GREY_LEVEL = 1 / 127.5  # in the unit of images, whose range is [-1, 1]
ROUNDING = 1e-12  # relative; so that the sigma of a timestep leads back to it


class ScheduleFacts(BaseModel):
    """A noise schedule, as config.json has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str = "linear"
    num_train_timesteps: int = Field(ge=1)
    beta_start: float | None = None
    beta_end: float | None = None
    zero_terminal_snr: bool = False


def enter_at(schedule: ScheduleFacts, sigma: float) -> int | None:
    """The least noisy timestep that is at least as noisy as a picture with noise of `sigma` grey levels.

    None if the schedule never gets as noisy, or leaves nothing of a picture there.
    """
    levels = noise_levels(schedule)
    timestep = bisect_left(levels, sigma * GREY_LEVEL * (1 - ROUNDING))
    return timestep if timestep < len(levels) and levels[timestep] < math.inf else None


@lru_cache(maxsize=64)
def noise_levels(schedule: ScheduleFacts) -> tuple[float, ...]:
    """sqrt((1 - abar) / abar) of each timestep, rising."""
    abars = list(accumulate((1.0 - beta for beta in _betas(schedule)), lambda a, b: a * b))
    if schedule.zero_terminal_snr:
        first, last = math.sqrt(abars[0]), math.sqrt(abars[-1])
        abars = [((math.sqrt(abar) - last) * first / (first - last)) ** 2 for abar in abars]
    return tuple(math.sqrt((1.0 - abar) / abar) if abar > 0 else math.inf for abar in abars)


def _betas(schedule: ScheduleFacts) -> list[float]:
    total = schedule.num_train_timesteps
    if schedule.type == "cosine":
        course = [math.cos((t / total + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(total + 1)]
        return [min(1.0 - after / before, 0.999) for before, after in pairwise(course)]
    if schedule.type == "scaled_linear":
        roots = _even(math.sqrt(schedule.beta_start or 0.00085), math.sqrt(schedule.beta_end or 0.012), total)
        return [root**2 for root in roots]
    return _even(schedule.beta_start or 1e-4, schedule.beta_end or 0.02, total)


def _even(first: float, last: float, count: int) -> list[float]:
    step = (last - first) / max(1, count - 1)
    return [first + i * step for i in range(count)]
