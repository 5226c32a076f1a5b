"""Flow matching as a noise schedule: straight paths between images and noise."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from .schedule import FloatTable, NoiseSchedule


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
    def of(cls, num_train_timesteps: int = 1000, shift: float = 1.0, noise_scale: float = 1.0) -> Self:
        """Makes the schedule of T timesteps."""
        u = np.arange(1, num_train_timesteps + 1, dtype=np.float64) / num_train_timesteps
        s = _shifted(u, shift)
        abar = (1 - s) ** 2 / ((1 - s) ** 2 + (noise_scale * s) ** 2)
        return cls(NoiseSchedule.from_alphas_cumprod(abar).betas, shift, noise_scale)

    def time_at(self, timestep: Any) -> Any:
        """Returns the times s of timesteps, which may be fractional: an array or a tensor of their shape."""
        return _shifted((timestep + 1) / self.num_train_timesteps, self.shift)

    def timestep_at(self, sigma: FloatTable) -> FloatTable:
        """The timesteps, fractional, at which the noise has these levels."""
        with np.errstate(divide="ignore"):
            s = 1 / (1 + self.noise_scale / np.asarray(sigma))
        return _shifted(s, 1 / self.shift) * self.num_train_timesteps - 1

    def sigma_at(self, timestep: FloatTable) -> FloatTable:
        """The noise level at timesteps, which may be fractional; infinite at T-1."""
        s = self.time_at(np.asarray(timestep, dtype=np.float64))
        with np.errstate(divide="ignore"):
            levels: FloatTable = self.noise_scale * s / (1 - s)
        return levels


def _shifted(u: Any, shift: float) -> Any:
    """Returns shift u / (1 + (shift - 1) u), which the inverse of the shift undoes; 0 and 1 stay."""
    return shift * u / (1 + (shift - 1) * u)
