"""The batches of a run: the order of the images, what chance decides for each, and the inputs of the network.

Every process draws for the whole batch and takes its share. So a run is the same on any number of processes, up to
rounding. Dropout is the exception: each process draws its masks from a generator of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from difuso.model.conditions import Image
from difuso.model.images import from_levels
from difuso.model.network_inputs import Column, inputs_of_columns
from difuso.model.network_inputs import augment as add_noise

from ..objective.objectives import DrawTimesteps
from ..recipe import ENLARGED, Recipe
from .augmentation import Augment
from .conditions import Columns, some_of
from .dataset import Dataset
from .pairs import noise_of

# The ways in which a square lies on itself: four turns, each mirrored or not (the dihedral group of order 8).
SYMMETRIES = 8
MIRRORED = 1  # the number of the symmetry that changes left and right

MOST_SEED = 2**63 - 1  # of an augmentation, not included


class Seeds(NamedTuple):
    """The seeds of a run's random numbers.

    A run that continues from a checkpoint must not repeat the checkpoint's training: the same images in the same order,
    with the same timesteps and noise, teach less than new ones. So all seeds follow from both.
    """

    recipe: int  # the seed of the recipe
    origin: str = ""  # hexadecimal SHA-256 of the weights that the run begins from; empty for random weights

    def of(self, role: str) -> int:
        """Returns the seed of the generator with this role, such as drawing noise; 0 to 2^63 - 1."""
        digest = hashlib.sha256(f"{self.recipe}/{self.origin}/{role}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


class Batch(NamedTuple):
    """The images of a batch, or of a process's share of it."""

    pixels: Tensor  # uint8 or uint16, shape (B, H, W, C)
    labels: Tensor | None  # class indices, shape (B,), int64; None for a network without classes
    # the conditions by name; images and maps are uint8, (B, h, w, c)
    columns: Mapping[str, Column] = {}
    noise: Tensor | None = None  # from which a teacher drew each image, (B, C, H, W); None for other images


class Batches:
    """An endless stream of full batches, each epoch in a new order that depends only on the seed and the epoch.

    `position` is the number of batches yielded so far; it is set to resume an earlier run.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *, seed: int, share: slice = slice(None)) -> None:
        self.dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._share = share
        self._per_epoch = len(dataset.trained) // batch_size
        self.position = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yields this process's share of one batch after another."""
        while True:
            epoch, offset = divmod(self.position, self._per_epoch)
            order = np.random.default_rng((self._seed, epoch)).permutation(self.dataset.trained)
            for batch in range(offset, self._per_epoch):
                rows = order[batch * self._batch_size : (batch + 1) * self._batch_size][self._share]
                self.position += 1
                pixels, labels = self.dataset.images[rows], self.dataset.labels
                yield Batch(
                    pixels=torch.from_numpy(pixels),
                    labels=None if labels is None else torch.from_numpy(labels[rows]),
                    columns=some_of(self.dataset.columns, rows),
                    noise=noise_of(rows, pixels) if self.dataset.paired else None,
                )


@dataclass(frozen=True, eq=False)
class Drawn:
    """The random choices for the B images of a batch, or of a part of it."""

    augmentations: Tensor | None  # the seed of each image's augmentation, shape (B,), int64; None without any
    symmetries: Tensor  # the number of each image's symmetry, see `turned`, shape (B,), int64
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
        augmentations = None
        if recipe.data.augment:
            augmentations = torch.randint(0, MOST_SEED, (count,), generator=self._generator)
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
        return Drawn(augmentations, symmetries, t, nameless, noise, corners, levels, condition_noise, dropped)

    def _symmetries(self, count: int) -> Tensor:
        if self._recipe.data.flip == "dihedral":
            return torch.randint(0, SYMMETRIES, (count,), generator=self._generator)
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


def network_inputs(
    recipe: Recipe, batch: Batch, drawn: Drawn, rows: slice, device: torch.device, *, augment: Augment | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns some images of a batch, with their classes and conditions as chance decided.

    The images x_0 are in [-1, 1], shape (B, C, H, W): augmented, then cropped, then turned. The others are the
    network's arguments besides x_t and t.
    """
    drawn = drawn.part(rows)
    inputs = {}
    if batch.labels is not None:
        assert recipe.num_classes is not None
        inputs["labels"] = batch.labels[rows].masked_fill(drawn.nameless, recipe.num_classes).to(device)
    columns = prepared(recipe, some_of(batch.columns, rows), device)
    for name, dropped in zip(recipe.condition_drops, drawn.dropped.T.to(device), strict=True):
        columns[name] = columns[name].without(dropped)
    if recipe.condition is not None:
        assert drawn.condition_noise is not None
        noisy = add_noise(columns[ENLARGED].values, drawn.levels, drawn.condition_noise)
        columns[ENLARGED] = columns[ENLARGED]._replace(values=noisy)
        inputs["level"] = drawn.levels.to(device)
    inputs |= inputs_of_columns(recipe.all_conditions, columns, (recipe.shape.height, recipe.shape.width))
    if "planes" in inputs:
        # Made as a whole before they are cropped, because bicubic values near an edge depend on what lies beyond.
        inputs["planes"] = _as_drawn(inputs["planes"], recipe.crop, drawn)
    pixels = batch.pixels[rows]
    if augment is None or drawn.augmentations is None:
        images = from_levels(pixels.to(device))
    else:
        images = augment(from_levels(pixels), drawn.augmentations).to(device)
    return _as_drawn(images, recipe.crop, drawn), inputs


def prepared(recipe: Recipe, columns: Columns, device: torch.device) -> dict[str, Column]:
    """Returns stored columns on a device, and as networks see them: images in [-1, 1]."""
    seen = {}
    for name, (values, present) in columns.items():
        values = values.to(device)
        if name in recipe.seen:
            values = from_levels(values) if isinstance(recipe.all_conditions[name], Image) else values[..., 0]
        seen[name] = Column(values, present.to(device))
    return seen


def _as_drawn(images: Tensor, crop: int, drawn: Drawn) -> Tensor:
    """Crops and turns images of shape (B, C, H, W)."""
    if crop:
        corners = zip(images, drawn.corners.tolist(), strict=True)
        images = torch.stack([image[:, y : y + crop, x : x + crop] for image, (y, x) in corners])
    return turned(images.contiguous(memory_format=torch.channels_last), drawn.symmetries)


def shown(flip: bool | Literal["dihedral"]) -> range:
    """Returns the numbers of the symmetries in which a recipe's `data.flip` shows an image."""
    return range(SYMMETRIES) if flip == "dihedral" else range(MIRRORED + flip)


def turned(images: Tensor, symmetries: Tensor) -> Tensor:
    """Returns each image in its symmetry: number 2 q + m is mirrored if m = 1, then turned q times by 90 degrees.

    The images have the shape (B, C, H, W), of squares where q is odd, and the symmetries (B,), int64, 0 to 7.
    """
    if not symmetries.any():
        return images
    out = images.clone(memory_format=torch.preserve_format)
    for number in set(symmetries.tolist()):
        chosen = symmetries == number
        flipped = images[chosen].flip(-1) if number % 2 else images[chosen]
        out[chosen] = flipped.rot90(number // 2, (-2, -1))
    return out
