"""The random choices of a training step.

Every process draws for the whole batch and takes its share. So a run is the same on any number of processes, up to
rounding. Dropout is the exception: each process draws its masks from a generator of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .timesteps import TimestepSampler


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn for the B images of a batch, or of a part of it.

    Attributes:
        mirrored: shape (B,), bool.
        t: timesteps, shape (B,), int64 or, between the integers, float64; on the CPU.
        importance: weights of the losses that make up for how t was drawn, shape (B,).
        nameless: images that are shown without their class, shape (B,), bool.
        noise: standard normal, shape (B, C, H, W), on the device.
    """

    mirrored: Tensor
    t: Tensor
    importance: Tensor
    nameless: Tensor
    noise: Tensor

    def part(self, rows: slice) -> Drawn:
        """Returns what was drawn for some of the images."""
        return Drawn(self.mirrored[rows], self.t[rows], self.importance[rows], self.nameless[rows], self.noise[rows])


class Draws:
    """Draws for one step after another.

    Args:
        seed: the seed of all draws.
        device: the device on which noise is made and used.
        flip: the probability that an image is mirrored, 0..1.
        label_drop: the probability that an image is shown without its class, 0..1.
    """

    def __init__(self, seed: int, device: torch.device, *, flip: float, label_drop: float) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        on_cpu = device.type == "cpu"
        self._noise_generator = self._generator if on_cpu else torch.Generator(device).manual_seed(seed)
        self._device = device
        self._flip, self._label_drop = flip, label_drop

    def next(self, count: int, shape: tuple[int, int, int], timesteps: TimestepSampler) -> Drawn:
        """Draws for a batch of `count` images of this shape (C, H, W)."""
        mirrored = self._chance(self._flip, count)
        t, importance = timesteps.draw(count, self._generator)
        nameless = self._chance(self._label_drop, count)
        noise = torch.randn((count, *shape), generator=self._noise_generator, device=self._device)
        return Drawn(mirrored, t, importance, nameless, noise)

    def _chance(self, probability: float, count: int) -> Tensor:
        """Returns True with this probability for each image; draws nothing if the probability is 0."""
        if probability == 0:
            return torch.zeros(count, dtype=torch.bool)
        return torch.rand(count, generator=self._generator) < probability

    def state(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state(), "noise_generator": self._noise_generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])
        if self._noise_generator is not self._generator:
            self._noise_generator.set_state(state["noise_generator"])
