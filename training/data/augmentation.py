"""Augmentation: a function of another package changes the images of a batch, each with random numbers of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from difuso.model.errors import ForeignError
from difuso.model.foreign.code import foreign_code, load

Augment = Callable[[Tensor, Tensor], Tensor]  # from images (B, C, H, W) and a seed for each, (B,), to images


def augment_of(name: str) -> Augment | None:
    """Returns what changes the images of a batch; None for an empty name.

    The function that a recipe's `data.augment` names is called for each image as function(image, generator). It gets
    and returns float32 of shape (C, H, W) on the CPU. Levels lie in [-1, 1], and those that it returns are clamped.

    An augmentation raises ForeignError if the function fails, or returns anything but finite floats of this shape.
    """
    if not name:
        return None
    function = load(name)

    def augment(images: Tensor, seeds: Tensor) -> Tensor:
        changed = [augmented(image, seed) for image, seed in zip(images.contiguous(), seeds.tolist(), strict=True)]
        return torch.stack(changed)

    def augmented(image: Tensor, seed: int) -> Tensor:
        with torch.no_grad(), foreign_code(name, "be called"):
            changed = function(image, torch.Generator().manual_seed(seed))
        if not isinstance(changed, Tensor) or changed.shape != image.shape or not changed.is_floating_point():
            raise ForeignError(f"{name} must return floats of shape {tuple(image.shape)}, that of its image")
        if not changed.isfinite().all():
            raise ForeignError(f"{name} returned NaN or infinity: levels must lie between -1 and 1")
        return changed.float().clamp(-1, 1)

    return augment
