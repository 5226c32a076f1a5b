"""The images that every source yields, one after another, readable or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple

from model.shape import Shape

from ..choices import SOURCES
from ..recipe import Data
from .images import ImageArray


class SourceImage(NamedTuple):
    """One image, or the reason why it cannot be read.

    Attributes:
        name: its place, for messages.
        image: uint8, or uint16 if `data.bits` is 16, shape (H, W, C); None if it cannot be read.
        label: class index; None if the source has none for it.
        reason: why it cannot be read.
        condition: uint8, shape (h, w, c), the image that a conditional network sees with x_t; None for any other.
    """

    name: str
    image: ImageArray | None
    label: int | None = None
    reason: str = ""
    condition: ImageArray | None = None


@dataclass(frozen=True)
class Source:
    """Images that are not read yet.

    Attributes:
        items: the images, which can be iterated once.
        total: number of images; None if it is not known before the end.
        classes: names of the classes; None if labels are bare numbers, or there are none.
    """

    items: Iterable[SourceImage]
    total: int | None = None
    classes: tuple[str, ...] | None = None


def open_source(data: Data, shape: Shape) -> Source:
    """Opens the images of a recipe's `data`, in the shape of its images; raises RecipeError if there are none."""
    module = import_module(f".{SOURCES[data.source].module}", __package__)
    source: Source = getattr(module, f"open_{data.source}")(data, shape)
    return source
