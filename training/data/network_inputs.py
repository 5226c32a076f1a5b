"""The inputs of a network in a training step: a batch's images and conditions after their random changes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model.condition_inputs import augment, enlarge
from model.images import from_levels

from ..recipe import Recipe
from .batches import Batch
from .draws import Drawn
from .symmetries import turned


class NetworkInputs(NamedTuple):
    """Clean images, and the network's arguments besides x_t.

    Attributes:
        x0: shape (B, C, H, W), in [-1, 1].
        told: the arguments of the network's calls except x_t and t, by their names.
    """

    x0: Tensor
    told: dict[str, Tensor]


def network_inputs(recipe: Recipe, batch: Batch, drawn: Drawn, rows: slice, device: torch.device) -> NetworkInputs:
    """Returns some images of a batch, cropped and turned, with their classes and conditions as chance decided."""
    drawn = drawn.part(rows)
    told = {}
    if batch.labels is not None:
        assert recipe.num_classes is not None
        told["labels"] = batch.labels[rows].masked_fill(drawn.nameless, recipe.num_classes).to(device)
    if batch.conditions is not None:
        assert drawn.condition_noise is not None
        small = augment(from_levels(batch.conditions[rows].to(device)), drawn.levels, drawn.condition_noise)
        # Enlarged as a whole before it is cropped, because bicubic values near an edge depend on what lies beyond.
        told["planes"] = _as_drawn(enlarge(small, recipe.shape[1:]), recipe.crop, drawn)
        told["level"] = drawn.levels.to(device)
    return NetworkInputs(_as_drawn(from_levels(batch.pixels[rows].to(device)), recipe.crop, drawn), told)


def _as_drawn(images: Tensor, crop: int, drawn: Drawn) -> Tensor:
    """Crops and turns images of shape (B, C, H, W)."""
    if crop:
        corners = zip(images, drawn.corners.tolist(), strict=True)
        images = torch.stack([image[:, y : y + crop, x : x + crop] for image, (y, x) in corners])
    return turned(images.contiguous(memory_format=torch.channels_last), drawn.symmetries)
