"""The images that every source yields, one after another, readable or not."""

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from difuso.model.folders.parsing import shown
from difuso.model.foreign.code import foreign_code, load
from difuso.model.foreign.names import is_foreign
from difuso.model.shape import Shape

from ..choices import SOURCES
from ..errors import RecipeError
from ..recipe import Data
from .images import ImageArray


class SourceImage(NamedTuple):
    """One image, or the reason why it cannot be read."""

    name: str  # its place, for messages
    image: ImageArray | None  # uint8, or uint16 if `data.bits` is 16, shape (H, W, C); None if it cannot be read
    label: int | None = None  # class index; None if the source has none for it
    reason: str = ""  # why it cannot be read
    # the images and maps that a conditional network sees with x_t, uint8 of shape (h, w, c), by the names of their
    # conditions
    seen: Mapping[str, ImageArray] = {}
    values: Mapping[str, Any] = {}  # the values of other conditions, and whatever else the source has, by name
    place: str = ""  # the place of `values`, for messages, if it is not the name


@dataclass(frozen=True)
class Source:
    """Images that are not read yet."""

    items: Iterable[SourceImage]  # the images, which can be iterated once
    total: int | None = None  # number of images; None if it is not known before the end
    classes: tuple[str, ...] | None = None  # names of the classes; None if labels are bare numbers, or there are none
    # the names of the values of images; None if they are not known before the end
    columns: tuple[str, ...] | None = ()
    may_begin_at_1: bool = False  # whether labels may be 1..n of n classes in place of 0..n-1


def open_source(data: Data, shape: Shape) -> Source:
    """Opens the images of a recipe's `data`, in the shape of its images; raises RecipeError if there are none.

    A function of another package that `data.source` names is called as function(data, shape) and yields images: arrays
    of uint8, or uint16 for 16 bits, shape (H, W, C). Or it yields dictionaries with an `image`, a `label` if there are
    classes, and the values of conditions by name.
    """
    if is_foreign(data.source):
        return Source(_own_items(data, shape), columns=None)
    module = import_module(f".{SOURCES[data.source].module}", __package__)
    return getattr(module, f"open_{data.source}")(data, shape)


def _own_items(data: Data, shape: Shape) -> Iterator[SourceImage]:
    wanted = "yield images"
    with foreign_code(data.source, wanted):
        found = iter(load(data.source)(data, shape))
    for index in itertools.count():
        with foreign_code(data.source, wanted):
            item = next(found, None)
        if item is None:
            return
        yield _own_item(data, shape, f"{data.source}, image {index}", item)


def _own_item(data: Data, shape: Shape, name: str, item: Any) -> SourceImage:
    values = dict(item) if isinstance(item, Mapping) else {"image": item}
    image, label = values.pop("image", None), values.pop("label", None)
    dtype = np.uint8 if data.bits == 8 else np.uint16
    if not isinstance(image, np.ndarray) or image.shape != shape.hwc or image.dtype != dtype:
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise RecipeError(f"{name} must be an array of {np.dtype(dtype)} and shape {shape.hwc}, not {found}")
    try:
        return SourceImage(name, image, None if label is None else operator.index(label), values=values)
    except TypeError as error:
        raise RecipeError(f"{name} has the label {shown(label)}: it must be a whole number, from 0") from error
