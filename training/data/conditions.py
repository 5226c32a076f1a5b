"""The conditions of training images: the images themselves made smaller, files of the same names, and values."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from model.conditions import ImageMap
from model.shape import Shape

from ..errors import RecipeError
from ..recipe import ENLARGED, Recipe
from .image_files import open_maps
from .images import ImageArray, centre_crop
from .source_images import Source, SourceImage, open_source
from .tables import with_table
from .told import check_columns


def open_with_conditions(recipe: Recipe) -> Source:
    """Opens the images of a recipe, each with its conditions.

    An image of which an image or a map cannot be read counts as unreadable.

    Raises RecipeError if there are no images, or a condition is told nowhere; from the items, if an image and its
    condition have different names.
    """
    data, source = recipe.data, open_source(recipe.data, recipe.shape)
    if data.table:
        source = with_table(source, Path(data.table), data.classes)
    check_columns(recipe.conditions, source)
    for name, shape in recipe.seen.items():
        path = data.condition_path if name == ENLARGED else data.condition_paths[name]
        if not path:
            source = replace(source, items=_made_smaller(source.items, name, shape))
            continue
        there, condition = replace(data, path=path), recipe.told[name]
        is_map = isinstance(condition, ImageMap)
        files = open_maps(there, shape, count=condition.planes) if is_map else open_source(there, shape)
        source = replace(source, items=_paired(source.items, name, path, files.items))
    return source


def smaller(image: ImageArray, shape: Shape) -> ImageArray:
    """Returns an image of shape (H, W, C) in another shape, made like every image here; see `centre_crop`."""
    full = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    return np.asarray(centre_crop(full.convert("L" if shape.channels == 1 else "RGB"), shape)).reshape(shape.hwc)


def _made_smaller(items: Iterable[SourceImage], name: str, shape: Shape) -> Iterator[SourceImage]:
    for item in items:
        yield item if item.image is None else item._replace(seen={**item.seen, name: smaller(item.image, shape)})


def _paired(
    images: Iterable[SourceImage], name: str, path: str, conditions: Iterable[SourceImage]
) -> Iterator[SourceImage]:
    for item, condition in zip_longest(images, conditions):
        if item is None or condition is None or _stem(item) != _stem(condition):
            lonely = item or condition
            raise RecipeError(f"{lonely.name} has no partner: data.path and {path} must hold files of the same names")
        if condition.image is None:
            yield item._replace(image=None, reason=item.reason or f"condition {name}: {condition.reason}")
        else:
            yield item._replace(seen={**item.seen, name: condition.image})


def _stem(item: SourceImage) -> PurePath:
    return PurePath(item.name).with_suffix("")
