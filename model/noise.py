"""Noise: drawn from the generator of an image, added to images, and mixed as images are."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .plans.noise_level import NoiseLevel
from .plans.schedule import NoiseSchedule


def image_generator(seed: int) -> torch.Generator:
    """Makes the generator of the image with this seed; it is on the CPU, whatever the device."""
    return torch.Generator("cpu").manual_seed(seed)


class Arc:
    """Draws from the arc between the noises of two seeds, in the place of a generator (Song et al. 2021, section 5.3).

    At the shares 0 and 1 it draws what the generator of that seed draws.
    """

    def __init__(self, seeds: tuple[int, int], share: float) -> None:
        self._ends = [image_generator(seed) for seed in seeds]
        self._share = share

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        first, second = (torch.randn(shape, generator=end) for end in self._ends)
        return slerp(first, second, self._share)

    def get_state(self) -> Tensor:
        """Returns the states of both generators, shape (2, bytes)."""
        return torch.stack([end.get_state() for end in self._ends])

    def set_state(self, state: Tensor) -> None:
        for end, each in zip(self._ends, state, strict=True):
            end.set_state(each.clone())


Source = torch.Generator | Arc


def draw_noise(sources: Sequence[Source], shape: tuple[int, int, int]) -> Tensor:
    """Draws normal float32 noise, (len(sources), C, H, W) on the CPU; once from each, as diffusers does."""
    return torch.cat([_drawn(source, (1, *shape)) for source in sources])


def _drawn(source: Source, shape: tuple[int, ...]) -> Tensor:
    return source.draw(shape) if isinstance(source, Arc) else torch.randn(shape, generator=source)


def q_sample(schedule: NoiseSchedule, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Returns x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise, all of shape (B, C, H, W) (Ho et al. 2020, eq. 4).

    The timesteps t have the shape (B,), int64 in 0..T-1.
    """
    abar = torch.from_numpy(schedule.alphas_cumprod)[t.cpu()].view(-1, 1, 1, 1)
    signal, spread = abar.sqrt().to(x0), (1.0 - abar).sqrt().to(x0)
    return signal * x0 + spread * noise


def enter(level: NoiseLevel, image: Tensor, noise: Tensor) -> Tensor:
    """Returns x_t of an image in [-1, 1] that is already noisy; `noise` is standard normal, of the image's shape."""
    return level.scale * (image + level.top_up * noise)


def mix(x_a: Tensor, x_b: Tensor, share: float) -> Tensor:
    """Returns (1 - share) x_a + share x_b (Ho et al. 2020, section 4.4, with x_t in the place of x_0)."""
    return (1.0 - share) * x_a + share * x_b


def slerp(x_a: Tensor, x_b: Tensor, share: float) -> Tensor:
    """Interpolates along the arc between two noises (Song et al. 2021, section 5.3); a straight line shrinks the norm.

    sin((1 - share) theta) / sin(theta) x_a + sin(share theta) / sin(theta) x_b, with theta the angle between them. If
    they point in the same direction, it is the straight line.
    """
    a, b = x_a.flatten().double(), x_b.flatten().double()
    cosine = (a @ b / (a.norm() * b.norm())).clamp(-1.0, 1.0)
    theta = float(torch.arccos(cosine))
    if not np.sin(theta) >= 1e-6 or share in (0.0, 1.0):  # theta is NaN if one of them is 0
        return mix(x_a, x_b, share)
    weights = np.sin([(1.0 - share) * theta, share * theta]) / np.sin(theta)
    return float(weights[0]) * x_a + float(weights[1]) * x_b
