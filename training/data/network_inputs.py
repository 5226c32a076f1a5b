"""The inputs of a network in a training step: a batch's images and conditions after their random changes."""

import torch
from torch import Tensor

from difuso.model.conditions import Image
from difuso.model.images import from_levels
from difuso.model.network_inputs import Column, augment, inputs_of_columns

from ..recipe import ENLARGED, Recipe
from .batches import Batch
from .conditions import Columns, some_of
from .draws import Drawn
from .symmetries import turned


def network_inputs(
    recipe: Recipe, batch: Batch, drawn: Drawn, rows: slice, device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns some images of a batch, cropped and turned, with their classes and conditions as chance decided.

    The images x_0 are in [-1, 1], shape (B, C, H, W). The others are the network's arguments besides x_t and t.
    """
    drawn = drawn.part(rows)
    inputs = {}
    if batch.labels is not None:
        assert recipe.num_classes is not None
        inputs["labels"] = batch.labels[rows].masked_fill(drawn.nameless, recipe.num_classes).to(device)
    columns = prepared(recipe, some_of(batch.columns, rows), device)
    for name, dropped in zip(recipe.condition_drops, drawn.dropped.T.to(device), strict=True):
        columns[name] = columns[name]._replace(present=columns[name].present & ~dropped)
    if recipe.condition is not None:
        assert drawn.condition_noise is not None
        noisy = augment(columns[ENLARGED].values, drawn.levels, drawn.condition_noise)
        columns[ENLARGED] = columns[ENLARGED]._replace(values=noisy)
        inputs["level"] = drawn.levels.to(device)
    inputs |= inputs_of_columns(recipe.all_conditions, columns, (recipe.shape.height, recipe.shape.width))
    if "planes" in inputs:
        # Made as a whole before they are cropped, because bicubic values near an edge depend on what lies beyond.
        inputs["planes"] = _as_drawn(inputs["planes"], recipe.crop, drawn)
    return _as_drawn(from_levels(batch.pixels[rows].to(device)), recipe.crop, drawn), inputs


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
