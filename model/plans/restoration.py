"""The plan of a restoration (DDRM: Kawar et al. 2022), for the coordinates that are not measured."""

import math

import numpy as np

from ..guidance import UNGUIDED, Guidance
from .clipping import Clipping
from .plan import Plan, tabulate
from .prediction import Prediction
from .samplers.transition import Transition
from .schedule import FloatTable, NoiseSchedule
from .spacing import visit_levels

# The share of the noise that is drawn anew where nothing is measured, as in the publication (section 4.3). The code has
# no eta_b, which is always 1: coordinates whose measurement is less noisy than the step are taken as measured.
ETA = 0.85


def plan_restoration(
    schedule: NoiseSchedule,
    *,
    steps: int,
    spacing: str,
    prediction: Prediction,
    clipping: Clipping,
    guidance: Guidance = UNGUIDED,
) -> tuple[Plan, FloatTable]:
    """Makes the plan of a restoration; the arguments and errors are those of `make_plan`.

    The noise with it is that of x / sqrt(abar) before each row and after the last, falling, shape (K + 1,).
    """
    levels = visit_levels(schedule, spacing, steps)
    transitions = []
    for i in reversed(range(steps)):
        abar, abar_prev = float(levels.chain.alphas_cumprod[i]), float(levels.chain.alphas_cumprod_prev[i])
        spread = math.sqrt(1.0 - abar_prev)
        a = math.sqrt(1.0 - ETA**2) * spread / math.sqrt(1.0 - abar)
        transitions.append(Transition(i, a=a, b=math.sqrt(abar_prev) - a * math.sqrt(abar), s=ETA * spread))
    plan = tabulate(levels, transitions, prediction=prediction, clipping=clipping, guidance=guidance)
    return plan, np.append(levels.chain.sigmas[::-1], 0.0)
