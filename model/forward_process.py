"""The forward process: adds noise to images."""

import torch
from torch import Tensor

from .plans.noise_level import NoiseLevel
from .plans.schedule import NoiseSchedule


def q_sample(schedule: NoiseSchedule, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Returns x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise, shape of x0 (Ho et al. 2020, eq. 4).

    Args:
        x0: clean images, shape (B, C, H, W), in [-1, 1].
        t: timesteps, shape (B,), int64 in 0..T-1.
        noise: standard normal, shape of x0.
    """
    abar = torch.from_numpy(schedule.alphas_cumprod)[t.cpu()].view(-1, 1, 1, 1)
    signal, spread = abar.sqrt().to(x0), (1.0 - abar).sqrt().to(x0)
    return signal * x0 + spread * noise


def enter(level: NoiseLevel, image: Tensor, noise: Tensor) -> Tensor:
    """Returns x_t of an image in [-1, 1] that is already noisy; `noise` is standard normal, of the image's shape."""
    return level.scale * (image + level.top_up * noise)
