"""The forward process: how much of the image is left at each timestep.

Timesteps are 0-based, 0 the least noisy; publications count from 1 (their step t is index t - 1). All tables are
float64 and are cast only where they meet a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError

FloatTable = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Variances of q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I) (Ho et al. 2020, eq. 2).

    Attributes:
        betas: shape (T,), float64, each in (0, 1]; raises PlanError if one lies outside.
        continuous: whether a formula gives the noise between timesteps, too, even beside one where it is infinite.
    """

    betas: FloatTable
    continuous: ClassVar[bool] = False

    def __post_init__(self) -> None:
        betas = np.array(self.betas, dtype=np.float64)
        if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas <= 1)).all():
            raise PlanError("betas must be a non-empty list of numbers in (0, 1]")
        betas.flags.writeable = False
        object.__setattr__(self, "betas", betas)

    @classmethod
    def linear(cls, num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
        """Evenly spaced betas (Ho et al. 2020, section 4); guided-diffusion scales both ends by 1000 / T."""
        return cls(np.linspace(beta_start, beta_end, num_train_timesteps, dtype=np.float64))

    @classmethod
    def scaled_linear(
        cls, num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
    ) -> NoiseSchedule:
        """Betas whose square roots are evenly spaced (Rombach et al. 2022)."""
        roots = np.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=np.float64)
        return cls(roots**2)

    @classmethod
    def cosine(cls, num_train_timesteps: int = 1000) -> NoiseSchedule:
        """alphas_cumprod follows a squared cosine (Nichol & Dhariwal 2021, eq. 17)."""

        def alpha_bar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        total = num_train_timesteps
        betas = [min(1 - alpha_bar((t + 1) / total) / alpha_bar(t / total), 0.999) for t in range(total)]
        return cls(np.array(betas, dtype=np.float64))

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: FloatTable) -> NoiseSchedule:
        """The chain through levels of shape (K,), strictly falling, in [0, 1): beta_i = 1 - abar_i / abar_{i-1}."""
        levels = np.asarray(alphas_cumprod, dtype=np.float64)
        betas = 1.0 - levels / np.append(1.0, levels[:-1])
        # Rounding must not take away the rest of an image: a chain has nothing of it left at one level at most.
        return cls(np.where(levels > 0, np.minimum(betas, np.nextafter(1.0, 0.0)), betas))

    @classmethod
    def geometric(
        cls, num_train_timesteps: int = 1000, sigma_min: float = 0.002, sigma_max: float = 80.0
    ) -> NoiseSchedule:
        """Evenly spaced ln sigma, by default over the range of Karras et al. 2022 (section 5); `sigma_at` is exact.

        Raises PlanError if the range is empty.
        """
        if not 0 < sigma_min < sigma_max:
            raise PlanError("sigma_min must be positive and less than sigma_max")
        return cls.from_alphas_cumprod(1.0 / (1.0 + np.geomspace(sigma_min, sigma_max, num_train_timesteps) ** 2))

    @property
    def num_train_timesteps(self) -> int:
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> FloatTable:
        """Shape (T,): product of (1 - beta) up to and including t."""
        return np.cumprod(1.0 - self.betas, dtype=np.float64)

    @cached_property
    def alphas_cumprod_prev(self) -> FloatTable:
        """Shape (T,): alphas_cumprod one step earlier; starts with 1."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def sigmas(self) -> FloatTable:
        """Shape (T,): noise of x_t / sqrt(abar_t), rising; infinite where abar is 0 (Karras et al. 2022, table 1)."""
        with np.errstate(divide="ignore"):
            return np.sqrt((1.0 - self.alphas_cumprod) / self.alphas_cumprod)

    @cached_property
    def posterior_variance(self) -> FloatTable:
        """Shape (T,): variance of q(x_{t-1} | x_t, x0); 0 at t = 0 (Ho et al. 2020, eq. 7)."""
        return self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_variance_clipped(self) -> FloatTable:
        """Shape (T,): as `posterior_variance`, but with that of t = 1 at t = 0, so that its logarithm exists."""
        if self.num_train_timesteps == 1:
            return self.betas
        return np.append(self.posterior_variance[1], self.posterior_variance[1:])

    @cached_property
    def posterior_mean_coef1(self) -> FloatTable:
        """Shape (T,): weight of x0 in the mean of q(x_{t-1} | x_t, x0) (Ho et al. 2020, eq. 7)."""
        return np.sqrt(self.alphas_cumprod_prev) * self.betas / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_mean_coef2(self) -> FloatTable:
        """Shape (T,): weight of x_t in the mean of q(x_{t-1} | x_t, x0) (Ho et al. 2020, eq. 7)."""
        return np.sqrt(1.0 - self.betas) * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    def respace(self, timesteps: tuple[int, ...]) -> NoiseSchedule:
        """The chain of these increasing timesteps (Nichol & Dhariwal 2021, section 4)."""
        if timesteps == tuple(range(self.num_train_timesteps)):
            return self
        return NoiseSchedule.from_alphas_cumprod(self.alphas_cumprod[list(timesteps)])

    def rescale_zero_terminal_snr(self) -> NoiseSchedule:
        """The same course of sqrt(abar), shifted and scaled to end at 0 and begin as before (Lin et al. 2024, alg. 1).

        Nothing of the image is left at T-1, so a network must predict v or x0, and every run must begin there.

        Raises PlanError if there is one timestep only, which cannot both stay and end at 0.
        """
        if self.num_train_timesteps == 1:
            raise PlanError("betas of a single timestep cannot be rescaled to end where nothing of the image is left")
        signal = np.sqrt(self.alphas_cumprod)
        rescaled = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
        return NoiseSchedule.from_alphas_cumprod(rescaled**2)

    def timestep_at(self, sigma: FloatTable) -> FloatTable:
        """The timesteps at which the noise has these levels, fractional: linear in log sigma, as k-diffusion has it."""
        return np.interp(np.log(sigma), np.log(self.sigmas), np.arange(self.num_train_timesteps, dtype=np.float64))

    def sigma_at(self, timestep: FloatTable) -> FloatTable:
        """The noise level at timesteps, which may be fractional; undoes `timestep_at`."""
        every = np.arange(self.num_train_timesteps, dtype=np.float64)
        return np.exp(np.interp(timestep, every, np.log(self.sigmas)))


@dataclass(frozen=True, eq=False)
class ContinuousLinear(NoiseSchedule):
    """The limit of `NoiseSchedule.linear` for infinitely many timesteps: the VP SDE (Song et al. 2021, eq. 11).

    abar(s) = exp(-T (beta_start s + (beta_end - beta_start) s^2 / 2)) at the time s in (0, 1]. Timestep t is the time
    (t + 1) / T, so that the first one is 1/1000 by default, where the authors' sampler ends. `timestep_at` and
    `sigma_at` are exact between timesteps.

    Args:
        beta_start, beta_end: beta(0) / T and beta(1) / T of the SDE; the SDE's own 0.1 and 20 are 1e-4 and 0.02.
    """

    beta_start: float
    beta_end: float
    continuous: ClassVar[bool] = True

    @classmethod
    def of(cls, num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> ContinuousLinear:
        """Makes the schedule of T timesteps."""
        lost = _lost_by(np.arange(1.0, num_train_timesteps + 1), num_train_timesteps, beta_start, beta_end)
        return cls(1.0 - np.exp(-np.diff(lost, prepend=0.0)), beta_start, beta_end)

    def timestep_at(self, sigma: FloatTable) -> FloatTable:
        slope = (self.beta_end - self.beta_start) / self.num_train_timesteps
        if slope == 0:
            return np.log1p(sigma**2) / self.beta_start - 1
        return (np.sqrt(self.beta_start**2 + 2 * slope * np.log1p(sigma**2)) - self.beta_start) / slope - 1

    def sigma_at(self, timestep: FloatTable) -> FloatTable:
        lost = _lost_by(timestep + 1, self.num_train_timesteps, self.beta_start, self.beta_end)
        return np.sqrt(np.expm1(lost))


def _lost_by(steps: FloatTable, total: int, beta_start: float, beta_end: float) -> FloatTable:
    """Returns -ln abar after so many steps of T."""
    return beta_start * steps + (beta_end - beta_start) / total * steps**2 / 2


@dataclass(frozen=True, eq=False)
class Flow(NoiseSchedule):
    """The paths y = (1 - s) x0 + s k eps of rectified flow, at times s in (0, 1] (Liu et al. 2022; Lipman et al. 2023).

    y / sqrt((1 - s)^2 + (s k)^2) is an x_t like any other, with the noise sigma = s k / (1 - s). So all plans know x_t
    only; just the network is called with y and s (`FlowDenoiser`). Timestep t has the time that u = (t + 1) / T is
    shifted to, s = shift u / (1 + (shift - 1) u) (Esser et al. 2024, eq. 23). At T-1 nothing of the image is left.
    `timestep_at` and `sigma_at` are exact between timesteps.

    Args:
        shift: how far the times are shifted to the noise; 1 leaves them evenly spaced.
        noise_scale: k, the standard deviation of the noise where the paths end; 1 in the publications.
    """

    shift: float
    noise_scale: float
    continuous: ClassVar[bool] = True

    @classmethod
    def of(cls, num_train_timesteps: int = 1000, shift: float = 1.0, noise_scale: float = 1.0) -> Flow:
        """Makes the schedule of T timesteps."""
        u = np.arange(1, num_train_timesteps + 1, dtype=np.float64) / num_train_timesteps
        s = _shifted(u, shift)
        abar = (1 - s) ** 2 / ((1 - s) ** 2 + (noise_scale * s) ** 2)
        return cls(NoiseSchedule.from_alphas_cumprod(abar).betas, shift, noise_scale)

    def time_at(self, timestep: Any) -> Any:
        """Returns the times s of timesteps, which may be fractional: an array or a tensor of their shape."""
        return _shifted((timestep + 1) / self.num_train_timesteps, self.shift)

    def timestep_at(self, sigma: FloatTable) -> FloatTable:
        with np.errstate(divide="ignore"):
            s = 1 / (1 + self.noise_scale / np.asarray(sigma))
        return _shifted(s, 1 / self.shift) * self.num_train_timesteps - 1

    def sigma_at(self, timestep: FloatTable) -> FloatTable:
        s = self.time_at(np.asarray(timestep, dtype=np.float64))
        with np.errstate(divide="ignore"):
            levels: FloatTable = self.noise_scale * s / (1 - s)
        return levels


def _shifted(u: Any, shift: float) -> Any:
    """Returns shift u / (1 + (shift - 1) u), which the inverse of the shift undoes; 0 and 1 stay, to the last bit."""
    return shift * u / (shift * u + (1 - u))
