"""Consistency tuning: a network that denoises becomes one that draws in a few calls (Geng et al. 2024, ECT)."""

from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from difuso.model.plans.samplers import MOST_SIGMA
from difuso.model.plans.schedule import FloatTable, NoiseSchedule

from ..recipe import Recipe
from .losses import Losses, Network
from .timesteps import DrawTimesteps

MEAN, DEVIATION = -1.1, 2.0  # of ln sigma
# Between the two noise levels, relative to the noisier; wider where there is little noise. The publication goes down to
# 1 / 256. Our timesteps are sinusoids of up to one radian a step, and with 1 / 32 the networks unlearn denoising.
GAP = 1 / 8
SHARPEN = 8.0


def log_normal(count: int, generator: Generator, *, schedule: NoiseSchedule) -> Tensor:
    """Draws timesteps whose ln sigma is normally distributed (Geng et al. 2024, section 4); fractional.

    The distribution is cut off where the noise levels of the schedule end, or at sigma = 80.
    """
    normal = torch.randn(count, generator=generator, dtype=torch.float64)
    sigmas = (MEAN + DEVIATION * normal).exp().clamp(max=MOST_SIGMA).numpy()
    return torch.from_numpy(schedule.timestep_at(sigmas))


class Consistency:
    """Two neighbouring noise levels of one image and one noise should give the same x̂_0 (Geng et al. 2024, eq. 10).

    The less noisy of them is the target, without a gradient. The network predicts v, so x̂_0 is the image itself where
    there is no noise, which holds all the others in place.
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor) -> Losses:
        """The root mean squared difference of the two x̂_0 over the difference of the two noise levels.

        The arguments are those of `losses.Objective`, but t is float64, and the network predicts v.
        """
        sigmas = self._schedule.sigma_at(t.numpy())
        lower = nearer(sigmas, least=self._schedule.sigmas[0])
        with torch.no_grad():
            aim = self._denoise(network, x0, lower, noise)
        mse = (self._denoise(network, x0, sigmas, noise) - aim).square().mean((1, 2, 3))
        loss = (mse + torch.finfo(mse.dtype).tiny).sqrt() / torch.from_numpy(sigmas - lower).to(mse)
        return Losses.of_prediction(loss, mse)

    def _denoise(self, network: Network, x0: Tensor, sigmas: FloatTable, noise: Tensor) -> Tensor:
        """x̂_0 of images at these noise levels, shape (B,)."""
        known = np.maximum(sigmas, self._schedule.sigmas[0])
        t = torch.from_numpy(self._schedule.timestep_at(known)).to(torch.float32)
        abar = torch.from_numpy(1 / (1 + sigmas**2)).view(-1, 1, 1, 1)
        signal, spread = abar.sqrt().to(x0), (1 - abar).sqrt().to(x0)
        x_t = signal * x0 + spread * noise
        return signal * x_t - spread * network(x_t, t)


def nearer(sigmas: FloatTable, *, least: float) -> FloatTable:
    """The noise level a little below, for comparison: r = sigma (1 - (1 + 8 / (1 + e^sigma)) / 8).

    This is the third stage of the publication's mapping. Below the least noise that the network knows, r is 0: there
    x̂_0 is the image itself.
    """
    with np.errstate(over="ignore"):
        lower = sigmas * (1 - GAP * (1 + SHARPEN / (1 + np.exp(sigmas))))
    return np.where(lower < least, 0.0, lower)


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> tuple[Consistency, DrawTimesteps]:
    """Returns the loss, with its timesteps."""
    return Consistency(schedule), partial(log_normal, schedule=schedule)
