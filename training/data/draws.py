"""The random choices of a training step.

Every process draws for the whole batch and takes its share. So a run is the same on any number of processes, up to
rounding. Dropout is the exception: each process draws its masks from a generator of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..objective.timesteps import DrawTimesteps
from ..recipe import Recipe
from ..seeds import Seeds
from .symmetries import COUNT, MIRRORED


@dataclass(frozen=True, eq=False)
class Drawn:
    """The random choices for the B images of a batch, or of a part of it."""

    symmetries: Tensor  # the number of each image's symmetry, see `training.data.symmetries`, shape (B,), int64
    t: Tensor  # timesteps, shape (B,), int64, on the CPU
    nameless: Tensor  # images that are shown without their class, shape (B,), bool
    noise: Tensor  # standard normal, shape (B, C, H, W), on the device
    corners: Tensor  # the row and the column where each crop begins, shape (B, 2), int64
    levels: Tensor  # standard deviation of the noise in the conditions, shape (B,)
    condition_noise: Tensor | None  # standard normal, shape (B, c, h, w), on the device; None without images to enlarge
    # whether each image loses each of the recipe's conditions, in the order of `Recipe.condition_drops`, shape
    # (B, K), bool
    dropped: Tensor

    def part(self, rows: slice) -> Drawn:
        """Returns the choices for some of the images."""
        parts: dict[str, Any] = {name: part if part is None else part[rows] for name, part in vars(self).items()}
        return Drawn(**parts)


class Draws:
    """Draws for one step after another; noise is made on the device."""

    def __init__(self, recipe: Recipe, seeds: Seeds, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(seeds.of("steps"))
        on_cpu = device.type == "cpu"
        self._noise_generator = self._generator if on_cpu else torch.Generator(device).manual_seed(seeds.of("noise"))
        self._device = device
        self._recipe = recipe
        self._small_shape = recipe.small_shape

    def next(self, timesteps: DrawTimesteps) -> Drawn:
        """Draws for the next batch. Nothing is drawn for what the recipe does not have."""
        recipe, count = self._recipe, self._recipe.batch_size
        symmetries = self._symmetries(count)
        t = timesteps(count, self._generator)
        nameless = self._chance(recipe.label_drop, count)
        noise = self._noise(*recipe.shown_shape)
        corners, levels = torch.zeros(count, 2, dtype=torch.int64), torch.zeros(count)
        if recipe.crop:
            corners = torch.randint(0, recipe.shape.height - recipe.crop + 1, (count, 2), generator=self._generator)
        if recipe.condition is not None and recipe.condition.max_augmentation:
            levels = recipe.condition.max_augmentation * torch.rand(count, generator=self._generator)
        condition_noise = None if self._small_shape is None else self._noise(*self._small_shape)
        fate = torch.full((count,), 0.5)
        if recipe.drop_all or recipe.keep_all:
            fate = torch.rand(count, generator=self._generator)
        nothing, everything = fate < recipe.drop_all, fate >= 1 - recipe.keep_all
        dropped = torch.zeros(count, len(recipe.conditions), dtype=torch.bool)
        for place, (name, drop) in enumerate(recipe.condition_drops.items()):
            dropped[:, place] = self._chance(drop, count) & ~everything | nothing & recipe.conditions[name].null
        if recipe.label_drop:
            nameless = nameless | nothing
        return Drawn(symmetries, t, nameless, noise, corners, levels, condition_noise, dropped)

    def _symmetries(self, count: int) -> Tensor:
        if self._recipe.data.flip == "dihedral":
            return torch.randint(0, COUNT, (count,), generator=self._generator)
        return MIRRORED * self._chance(0.5 if self._recipe.data.flip else 0.0, count).long()

    def _noise(self, *shape: int) -> Tensor:
        whole = (self._recipe.batch_size, *shape)
        return torch.randn(whole, generator=self._noise_generator, device=self._device)

    def _chance(self, probability: float, count: int) -> Tensor:
        """Returns True with this probability for each image; draws nothing if the probability is 0."""
        if probability == 0:
            return torch.zeros(count, dtype=torch.bool)
        return torch.rand(count, generator=self._generator) < probability

    def state(self) -> dict[str, Tensor]:
        states = {"generator": self._generator.get_state()}
        if self._noise_generator is not self._generator:
            states["noise_generator"] = self._noise_generator.get_state()
        return states

    def load(self, state: dict[str, Any]) -> None:
        """Continues from a state. A CPU's state lacks the generator of a GPU's noise, which begins with the seed."""
        self._generator.set_state(state["generator"])
        of_noise = state.get("noise_generator", state["generator"])
        if self._noise_generator is not self._generator and not torch.equal(of_noise, state["generator"]):
            self._noise_generator.set_state(of_noise)
