"""The noise of x_t between the network calls of a run."""

from collections.abc import Sequence

import numpy as np

from .plan import Plan
from .schedule import FloatTable, NoiseSchedule

CLEAN = -1.0  # stands for the timestep of an image without noise: at timestep 0 there is a little


def levels_after(plan: Plan, schedule: NoiseSchedule, calls: Sequence[int]) -> tuple[FloatTable, FloatTable]:
    """Returns the timesteps of x_t after network calls, and alphas_cumprod there, each of shape (len(calls),).

    After a call x_t is at the timestep of the next one. After the last call it is an image, with timestep CLEAN and
    alphas_cumprod 1.

    Args:
        schedule: the noise schedule of training.
        calls: the numbers of the calls, 1 to len(plan).
    """
    timesteps = np.array([*plan.timesteps, CLEAN])[list(calls)]
    left = [1.0 if timestep == CLEAN else _alpha_cumprod(schedule, timestep) for timestep in timesteps]
    return timesteps, np.array(left)


def _alpha_cumprod(schedule: NoiseSchedule, timestep: float) -> float:
    if timestep == int(timestep):
        return float(schedule.alphas_cumprod[int(timestep)])
    return float(1.0 / (1.0 + schedule.sigma_at(np.array(timestep)) ** 2))
