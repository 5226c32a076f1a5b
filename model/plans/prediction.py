"""The quantity that a network predicts. x0 and eps follow from it; both are linear in x_t and in the output.

    v = sqrt(abar) eps - sqrt(1 - abar) x0          Salimans & Ho 2022, appendix D
    flow = eps - x0                                 the velocity of rectified flow: Liu et al. 2022, eq. 1

With the flow's y = (1 - s) x0 + s eps, which is x_t / (sqrt(abar) + sqrt(1 - abar)), x0 = y - s flow and
eps = y + (1 - s) flow.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ..errors import PlanError
from .schedule import ContinuousLinear, NoiseSchedule

Prediction = Literal["eps", "x0", "v", "flow"]
Kind = Literal["edm", "ve", "vp"]


def x0_from_output(prediction: Prediction, abar: float) -> tuple[float, float]:
    """Returns (p, q) of x0 = p x_t + q out; raises PlanError if x0 does not follow, or for an unknown prediction."""
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


@dataclass(frozen=True)
class Preconditioning:
    """The scalings of Karras et al. 2022 (table 1) around a network F, which make it a denoiser of x_t and t."""

    # `edm` predicts x0 = c_skip y + c_out F(c_in y, ln(sigma) / 4) of y = x_t / sqrt(abar). `ve` predicts eps = -F(y,
    # ln(sigma / 2)) and `vp` predicts eps = F(x_t, 999 s) at the time s = (t + 1) / T (Song et al. 2021); F is the
    # published network without the division by sigma that makes it a score.
    kind: Kind
    # standard deviation of the training images, with `edm` only
    sigma_data: Annotated[float, Field(ge=1e-3, le=1e3)] = 0.5

    @property
    def prediction(self) -> Prediction:
        """The quantity that the denoiser predicts."""
        return "x0" if self.kind == "edm" else "eps"

    def check(self, prediction: Prediction, schedule: NoiseSchedule) -> None:
        """Raises ValueError unless a model with this prediction and schedule can be called in this way."""
        if prediction != self.prediction:
            raise ValueError(f"with preconditioning {self.kind} the prediction is {self.prediction}, not {prediction}")
        if (self.kind == "vp") != isinstance(schedule, ContinuousLinear):
            raise ValueError(
                "preconditioning vp needs a schedule of the type continuous_linear, and no other kind takes one"
            )
        if not schedule.alphas_cumprod[-1]:
            raise ValueError("preconditioning needs a little of the image at the noisy end of the schedule")
