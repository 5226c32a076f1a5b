"""The call of a network that was trained on noise levels, not on timesteps. It needs no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from .prediction import Prediction
from .schedule import ContinuousLinear, NoiseSchedule

Kind = Literal["edm", "ve", "vp"]


@dataclass(frozen=True)
class Preconditioning:
    """The scalings of Karras et al. 2022 (table 1) around a network F, which make it a denoiser of x_t and t.

    Raises ValueError if the kind is unknown.
    """

    # `edm` predicts x0 = c_skip y + c_out F(c_in y, ln(sigma) / 4) of y = x_t / sqrt(abar). `ve` predicts eps = -F(y,
    # ln(sigma / 2)) and `vp` predicts eps = F(x_t, 999 s) at the time s = (t + 1) / T (Song et al. 2021); F is the
    # published network without the division by sigma that makes it a score.
    kind: Kind
    # standard deviation of the training images, with `edm` only
    sigma_data: Annotated[float, Field(ge=1e-3, le=1e3)] = 0.5

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown kind {self.kind!r}: choose one of {', '.join(get_args(Kind))}")

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
