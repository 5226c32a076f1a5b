"""The weights of the squared error at each timestep, by the names of weightings in recipes. It needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from difuso.model.plans.prediction import Prediction
from difuso.model.plans.schedule import FloatTable, NoiseSchedule

LEAST_SNR = 1e-9  # where nothing of the image is left, so that its logarithm and its reciprocal exist


@dataclass(frozen=True)
class Weighting:
    """A weighting of the simple loss."""

    # returns the factors of the squared error of eps, shape (T,), of a schedule and a gamma; None if they are 1,
    # whatever the network predicts
    of_eps: Callable[[NoiseSchedule, float], FloatTable] | None = None
    gamma: float = 0.0  # the parameter of the publication
    any_gamma: bool = False  # whether gamma may be 0 or negative


def _min_snr(schedule: NoiseSchedule, gamma: float) -> FloatTable:
    """An error of x0 counts min(SNR, gamma) (Hang et al. 2023, section 3.4)."""
    return gamma / np.maximum(_snr(schedule), gamma)  # which is min(SNR, gamma) / SNR, where no image is left too


def _p2(schedule: NoiseSchedule, gamma: float) -> FloatTable:
    """An error of eps counts 1 / (1 + SNR)^gamma (Choi et al. 2022, eq. 8)."""
    return (1 + _snr(schedule)) ** -gamma


def _sigmoid(schedule: NoiseSchedule, gamma: float) -> FloatTable:
    """An error of eps counts sigmoid(gamma - ln SNR), where ln SNR instead of t is uniform.

    So it is multiplied by -d ln SNR / ds, with s from 0 to 1 (Kingma & Gao 2023, "Understanding Diffusion Objectives as
    the ELBO with Simple Data Augmentation"; Hoogeboom et al. 2024).
    """
    log_snr = np.log(_snr(schedule))
    slope = -schedule.num_train_timesteps * np.gradient(log_snr)
    return slope * np.exp(-np.logaddexp(0.0, log_snr - gamma))


def _flow(schedule: NoiseSchedule, gamma: float) -> FloatTable:
    """An error of x0 counts 1 / s^2, as one of the velocity, with s at least gamma (Li & He 2025, "Back to Basics")."""
    s = 1 / (1 + np.sqrt(_snr(schedule)))
    return 1 / np.maximum(s, gamma) ** 2 / _snr(schedule)


WEIGHTINGS = {
    "uniform": Weighting(),
    "min_snr": Weighting(_min_snr, gamma=5.0),
    "p2": Weighting(_p2, gamma=1.0),
    "sigmoid": Weighting(_sigmoid, any_gamma=True),
    "flow": Weighting(_flow, gamma=0.05),
}


def weights(schedule: NoiseSchedule, prediction: Prediction, weighting: str, gamma: float | None = None) -> FloatTable:
    """Returns the factors of the mean squared error at all timesteps, shape (T,), float64.

    An error d of x0 is one of d sqrt(SNR) of eps, of d sqrt(1 + SNR) of v and of d (1 + sqrt(SNR)) of flow, and counts
    the same. `gamma` is the parameter of the weighting; None takes that of the publication.
    """
    chosen = WEIGHTINGS[weighting]
    if chosen.of_eps is None:
        return np.ones(schedule.num_train_timesteps)
    of_eps = chosen.of_eps(schedule, chosen.gamma if gamma is None else gamma)
    snr = _snr(schedule)
    match prediction:
        case "eps":
            return of_eps
        case "x0":
            return of_eps * snr
        case "v":
            return of_eps * snr / (1 + snr)
        case "flow":
            return of_eps * snr / (1 + np.sqrt(snr)) ** 2


def _snr(schedule: NoiseSchedule) -> FloatTable:
    """Returns the signal-to-noise ratio abar / (1 - abar) at all timesteps, shape (T,), and at least LEAST_SNR."""
    return np.maximum(schedule.alphas_cumprod / (1 - schedule.alphas_cumprod), LEAST_SNR)
