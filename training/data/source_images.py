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
    """One image, or the reason why it cannot be read.

    Attributes:
        name: its place, for messages.
        image: uint8, or uint16 if `data.bits` is 16, shape (H, W, C); None if it cannot be read.
        label: class index; None if the source has none for it.
        reason: why it cannot be read.
        seen: the images and maps that a conditional network sees with x_t, uint8 of shape (h, w, c), by the names of
            their conditions.
        told: the values of other conditions, and of whatever else the source tells, by name.
        place: the place of `told`, for messages, if it is not the name.
    """

    name: str
    image: ImageArray | None
    label: int | None = None
    reason: str = ""
    seen: Mapping[str, ImageArray] = {}
    told: Mapping[str, Any] = {}
    place: str = ""


@dataclass(frozen=True)
class Source:
    """Images that are not read yet.

    Attributes:
        items: the images, which can be iterated once.
        total: number of images; None if it is not known before the end.
        classes: names of the classes; None if labels are bare numbers, or there are none.
        columns: the names of what the images are told; None if they are not known before the end.
    """

    items: Iterable[SourceImage]
    total: int | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = ()


def open_source(data: Data, shape: Shape) -> Source:
    """Opens the images of a recipe's `data`, in the shape of its images; raises RecipeError if there are none."""
    module = import_module(f".{source_of(data.source).module}", __package__)
    source: Source = getattr(module, f"open_{'own' if is_foreign(data.source) else data.source}")(data, shape)
    return source
