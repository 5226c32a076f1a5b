"""UniPC of second order with B(h) = e^h - 1, in data prediction (Zhao et al. 2023, algorithms 5 to 8)."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..schedule import NoiseSchedule
from .transition import LogSnr, Options, Transition, log_snr


class Step(NamedTuple):
    """The way from one level to the next less noisy one."""

    a: float  # weight of the corrected x_t in the predicted x'
    # weights in it of the x0 of this call, of the call before, and of the one before that
    predictor: NDArray[np.float64]
    # weights of the correction of x' after the call there: of the x0 of that call, this one and the one before
    corrector: NDArray[np.float64]


def unipc(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """Corrects each x_t once the network was called there, and predicts the next one from the corrected x_t.

    The correction is a sum of x0 of the last three calls, so one row holds it and the prediction that follows. The last
    step ends at sigma = 0, where x' = x0.
    """
    levels = log_snr(chain)
    rows = []
    correction = np.zeros(3)
    for i in range(chain.num_train_timesteps - 1, 0, -1):
        step = _step(levels, i)
        b, c, d = (step.a * correction + step.predictor).tolist()
        rows.append(Transition(i, a=step.a, b=b, c=c, d=d))
        correction = step.corrector
    rows.append(Transition(0, a=0.0, b=1.0))
    return rows


def _step(levels: LogSnr, i: int) -> Step:
    """Returns the step from level i to i - 1, of first or second order."""
    alpha, sigma, lam = levels
    h = lam[i - 1] - lam[i]
    gain = -alpha[i - 1] * math.expm1(-h)
    predictor = np.array([gain, 0.0, 0.0])
    corrector = np.array([1.0, -1.0, 0.0]) * 0.5 * gain
    if levels.order(i, 2) == 2:
        r = (lam[i + 1] - lam[i]) / h  # negative: the level before lies on the other side
        slope = np.array([-1.0, 1.0, 0.0]) / r
        predictor += 0.5 * gain * slope
        # Two weights, so that the correction is exact for an x0 that is linear and one that is quadratic in lambda.
        linear = (1 + math.expm1(-h) / h) / -math.expm1(-h)
        quadratic = 2 * ((1 + math.expm1(-h) / h) / h - 0.5) / math.expm1(-h)
        own = (linear - quadratic) / (1 - r)
        corrector = gain * (own - 0.5) * np.roll(slope, 1) + gain * (linear - own) * np.array([1.0, -1.0, 0.0])
    return Step(sigma[i - 1] / sigma[i], predictor, corrector)
