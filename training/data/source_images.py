"""The images that every source yields, one after another, readable or not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from model.foreign.names import is_foreign
from model.shape import Shape

from ..choices import source_of
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
    told: Mapping[str, Any] = {}  # the values of other conditions, and of whatever else the source tells, by name
    place: str = ""  # the place of `told`, for messages, if it is not the name


@dataclass(frozen=True)
class Source:
    """Images that are not read yet."""

    items: Iterable[SourceImage]  # the images, which can be iterated once
    total: int | None = None  # number of images; None if it is not known before the end
    classes: tuple[str, ...] | None = None  # names of the classes; None if labels are bare numbers, or there are none
    # the names of what the images are told; None if they are not known before the end
    columns: tuple[str, ...] | None = ()


def open_source(data: Data, shape: Shape) -> Source:
    """Opens the images of a recipe's `data`, in the shape of its images; raises RecipeError if there are none."""
    module = import_module(f".{source_of(data.source).module}", __package__)
    return getattr(module, f"open_{'own' if is_foreign(data.source) else data.source}")(data, shape)
