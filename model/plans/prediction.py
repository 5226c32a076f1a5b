"""The quantity that a network predicts. x0 and eps follow from it; both are linear in x_t and in the output.

    v = sqrt(abar) eps - sqrt(1 - abar) x0          Salimans & Ho 2022, appendix D
    flow = eps - x0                                 the velocity of rectified flow: Liu et al. 2022, eq. 1

With the flow's y = (1 - s) x0 + s eps, which is x_t / (sqrt(abar) + sqrt(1 - abar)), x0 = y - s flow and
eps = y + (1 - s) flow.
"""

import math
from typing import Literal

from ..errors import PlanError

Prediction = Literal["eps", "x0", "v", "flow"]


def x0_from_output(prediction: Prediction, abar: float) -> tuple[float, float]:
    """Returns (p, q) of x0 = p x_t + q out.

    Raises PlanError if x0 does not follow from the output at this noise level, or if the prediction is unknown.
    """
    signal, spread = math.sqrt(abar), math.sqrt(1.0 - abar)
    match prediction:
        case "eps" if not signal:
            raise PlanError("prediction eps gives no x0 where no image is left (beta = 1): such a model needs v or x0")
        case "eps":
            return 1.0 / signal, -spread / signal
        case "v":
            return signal, -spread
        case "x0":
            return 0.0, 1.0
        case "flow":
            return 1.0 / (signal + spread), -spread / (signal + spread)
    raise PlanError(f"unknown prediction {prediction!r}: choose eps, x0, v or flow")


def eps_from_output(prediction: Prediction, abar: float) -> tuple[float, float]:
    """Returns (p, q) of eps = p x_t + q out; raises PlanError if the prediction is unknown."""
    signal, spread = math.sqrt(abar), math.sqrt(1.0 - abar)
    match prediction:
        case "eps":
            return 0.0, 1.0
        case "v":
            return spread, signal
        case "x0":
            return 1.0 / spread, -signal / spread
        case "flow":
            return 1.0 / (signal + spread), signal / (signal + spread)
    raise PlanError(f"unknown prediction {prediction!r}: choose eps, x0, v or flow")
