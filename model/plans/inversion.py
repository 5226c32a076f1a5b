"""The probability flow run backwards: from an image to the noise from which a sampler without noise would draw it.

Song et al. 2021 (DDIM), section 4.3, by the second-order solver of Lu et al. 2022 (DPM-Solver++(2M), algorithm 2).
"""

from typing import NamedTuple

from ..errors import PlanError
from ..guidance import UNGUIDED, Guidance
from .clipping import Clipping
from .plan import Plan, tabulate
from .prediction import Prediction
from .samplers.transition import Transition, log_snr
from .schedule import NoiseSchedule
from .spacing import KARRAS_SIGMA_MAX, karras_levels_between, timesteps_from

# Five grey levels. Below, the noise that a network finds is less certain: from a sigma of 0.0064 on, what a network of
# drawn faces found added up to a standard deviation of 0.85 to 0.89, and from 0.04 on to 0.98.
FIRST_SIGMA = 0.04


class Inversion(NamedTuple):
    """A run from an image to its noise.

    A clean image has no noise that could be followed upwards: a network finds none in it, and the noise at the top is
    far too smooth. So the image gets a little noise, which the run follows.
    """

    plan: Plan  # the run from x_t of the first level to x_t of the last, by one call fewer than there are levels
    # signal, spread: the first level, x_t = signal image + spread noise; the noise is standard normal
    signal: float
    spread: float


def make_inversion(
    schedule: NoiseSchedule,
    *,
    steps: int,
    prediction: Prediction = "eps",
    start: int | None = None,
    guidance: Guidance = UNGUIDED,
) -> Inversion:
    """Makes the run that takes an image to x_t at the timestep where a plan with this start begins.

    Its levels are those of Karras' grid from sigma 0.04 on. The network is called at the level where x_t is:

        x' = (sigma'/sigma) x_t + (alpha' - alpha sigma'/sigma) (x0 + h/(2 h_before) (x0 - x0_previous))

    with h the step in ln(alpha/sigma) and h_before the step before it. The first step is of first order. Nothing is
    clipped.

    Args:
        steps: number of levels, 2 or more.
        start: the timestep to reach; None for the last, or sigma = 164 where that is noisier.

    Raises PlanError if no such run exists; the message names the parameter and its limits.
    """
    total = timesteps_from(schedule, start)
    highest = float(schedule.sigmas[total - 1])
    if total == schedule.num_train_timesteps:  # what is noisier is pure noise, as for Karras' grid
        highest = min(highest, KARRAS_SIGMA_MAX)
    lowest = max(float(schedule.sigmas[0]), min(FIRST_SIGMA, highest / 2))
    if not lowest < highest:
        raise PlanError("must be a timestep above the first", "start", got=start)
    if not 2 <= steps <= total:
        raise PlanError(f"must lie between 2 and {total} to invert an image", "steps", got=steps)
    levels = karras_levels_between(schedule, lowest, highest, steps)
    alpha, sigma, lam = log_snr(levels.chain)
    rows = []
    for i in range(steps - 1):
        slope = (lam[i + 1] - lam[i]) / (lam[i] - lam[i - 1]) / 2 if i else 0.0
        gain = alpha[i + 1] - alpha[i] * sigma[i + 1] / sigma[i]
        rows.append(Transition(i, a=sigma[i + 1] / sigma[i], b=gain * (1 + slope), c=-gain * slope))
    plan = tabulate(levels, rows, prediction=prediction, clipping=Clipping("none"), guidance=guidance)
    return Inversion(plan, alpha[0], sigma[0])
