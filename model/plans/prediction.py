"""The quantity that a network predicts. x0 and eps follow from it; both are linear in x_t and in the output."""

import math
from typing import Literal

from ..errors import PlanError

Prediction = Literal["eps", "x0", "v"]


def x0_from_output(prediction: Prediction, abar: float) -> tuple[float, float]:
    """Returns (p, q) of x0 = p x_t + q out.

    Raises:
        PlanError: if x0 does not follow from the output at this noise level, or if the prediction is unknown.
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
    raise PlanError(f"unknown prediction {prediction!r}: choose eps, x0 or v")


def eps_from_output(prediction: Prediction, abar: float) -> tuple[float, float]:
    """Returns (p, q) of eps = p x_t + q out. v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans & Ho 2022, appendix D).

    Raises:
        PlanError: if the prediction is unknown.
    """
    signal, spread = math.sqrt(abar), math.sqrt(1.0 - abar)
    match prediction:
        case "eps":
            return 0.0, 1.0
        case "v":
            return spread, signal
        case "x0":
            return 1.0 / spread, -signal / spread
    raise PlanError(f"unknown prediction {prediction!r}: choose eps, x0 or v")
