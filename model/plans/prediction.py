"""What a network predicts, and how x0 and eps follow from it: both are linear in x_t and in its output."""

from __future__ import annotations

import math
from typing import Literal

from ..errors import PlanError

Prediction = Literal["eps", "x0", "v"]


def x0_from_output(prediction: Prediction, abar: float) -> tuple[float, float]:
    """x0 = p x_t + q out; returns (p, q).

    Raises:
        PlanError: if the output says nothing about x0 at this noise level, or the prediction is unknown.
    """
    signal, spread = math.sqrt(abar), math.sqrt(1.0 - abar)
    match prediction:
        case "eps" if not signal:
            raise PlanError("prediction eps says nothing where no image is left (beta = 1): such a model needs v or x0")
        case "eps":
            return 1.0 / signal, -spread / signal
        case "v":
            return signal, -spread
        case "x0":
            return 0.0, 1.0
    raise PlanError(f"unknown prediction {prediction!r}: choose eps, x0 or v")


def eps_from_output(prediction: Prediction, abar: float) -> tuple[float, float]:
    """eps = p x_t + q out; returns (p, q). v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans & Ho 2022, appendix D).

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
