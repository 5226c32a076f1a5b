"""A source of images of another package, which a recipe names: a function that yields images and what they are told."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from model.foreign.code import foreign_code, load
from model.shape import Shape

from ..errors import RecipeError
from ..recipe import Data
from .source_images import Source, SourceImage


def open_own(data: Data, shape: Shape) -> Source:
    """Opens the images of the function that `data.source` names.

    It is called as function(data, shape) and yields images: arrays of uint8, or uint16 for 16 bits, shape (H, W, C).
    Or it yields dictionaries with an `image`, a `label` if there are classes, and the values of conditions by name.
    """
    return Source(_items(data, shape), columns=None)


def _items(data: Data, shape: Shape) -> Iterator[SourceImage]:
    wanted = "yield images"
    with foreign_code(data.source, wanted):
        found = iter(load(data.source)(data, shape))
    for index in itertools.count():
        with foreign_code(data.source, wanted):
            item = next(found, None)
        if item is None:
            return
        yield _item(data, shape, f"{data.source}, image {index}", item)


def _item(data: Data, shape: Shape, name: str, item: Any) -> SourceImage:
    told = dict(item) if isinstance(item, Mapping) else {"image": item}
    image, label = told.pop("image", None), told.pop("label", None)
    dtype = np.uint8 if data.bits == 8 else np.uint16
    if not isinstance(image, np.ndarray) or image.shape != shape.hwc or image.dtype != dtype:
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise RecipeError(f"{name} must be an array of {np.dtype(dtype)} and shape {shape.hwc}, not {found}")
    return SourceImage(name, image, None if label is None else int(label), told=told)
