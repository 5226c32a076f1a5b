"""The conditions of training images: the images themselves made smaller, or files of the same names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import PurePath

import numpy as np
from PIL import Image

from model.shape import Shape

from ..errors import RecipeError
from ..recipe import Recipe
from .images import ImageArray, centre_crop
from .source_images import Source, SourceImage, open_source


def with_conditions(recipe: Recipe, source: Source) -> Source:
    """Gives each image of a recipe's source its condition; the source of a recipe without conditions does not change.

    An image whose condition cannot be read counts as unreadable.

    Raises:
        RecipeError: from the items, if an image and its condition have different names.
    """
    if recipe.condition_shape is None:
        return source
    shape = recipe.condition_shape
    if not recipe.data.condition_path:
        return replace(source, items=(_made_smaller(item, shape) for item in source.items))
    data = replace(recipe.data, path=recipe.data.condition_path)
    return replace(source, items=_paired(source.items, open_source(data, shape).items))


def smaller(image: ImageArray, shape: Shape) -> ImageArray:
    """Returns an image of shape (H, W, C) in another shape, made like every image here; see `centre_crop`."""
    full = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    return np.asarray(centre_crop(full.convert("L" if shape.channels == 1 else "RGB"), shape)).reshape(shape.hwc)


def _made_smaller(item: SourceImage, shape: Shape) -> SourceImage:
    return item if item.image is None else item._replace(condition=smaller(item.image, shape))


def _paired(images: Iterable[SourceImage], conditions: Iterable[SourceImage]) -> Iterator[SourceImage]:
    for item, condition in zip_longest(images, conditions):
        if item is None or condition is None or _stem(item) != _stem(condition):
            lonely = item or condition
            raise RecipeError(
                f"{lonely.name} has no partner: the folders data.path and data.condition_path must hold files of the "
                "same names"
            )
        if condition.image is None:
            item = item._replace(image=None, reason=item.reason or f"condition: {condition.reason}")
        yield item._replace(condition=condition.image)


def _stem(item: SourceImage) -> PurePath:
    return PurePath(item.name).with_suffix("")
