"""The conditions of training images: the images themselves made smaller, or files of the same names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import PurePath

import numpy as np
from PIL import Image

from .errors import RecipeError
from .images import ImageArray, centre_crop
from .recipe import Recipe
from .source import Source, SourceImage
from .sources import SOURCES


def with_conditions(recipe: Recipe, source: Source) -> Source:
    """Gives each image of a recipe's source its condition; a source of a recipe without conditions stays as it is.

    An image whose condition cannot be read counts as unreadable.

    Raises:
        RecipeError: from the items, if an image and its condition have different names.
    """
    if recipe.condition_shape is None:
        return source
    channels, size, _ = recipe.condition_shape
    if not recipe.data.condition_path:
        return replace(source, items=(_made_smaller(item, size, channels) for item in source.items))
    data = replace(recipe.data, path=recipe.data.condition_path)
    return replace(source, items=_paired(source.items, SOURCES[data.source](data, size, channels).items))


def smaller(image: ImageArray, size: int, channels: int) -> ImageArray:
    """Returns an image of shape (H, H, C) as (size, size, channels), made as every image here is; see `centre_crop`."""
    full = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    return np.asarray(centre_crop(full.convert("L" if channels == 1 else "RGB"), size)).reshape(size, size, channels)


def _made_smaller(item: SourceImage, size: int, channels: int) -> SourceImage:
    return item if item.image is None else item._replace(condition=smaller(item.image, size, channels))


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
