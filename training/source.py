"""What every place that images come from gives: one after another, readable or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .images import ImageArray
from .recipe import Data


class SourceImage(NamedTuple):
    """One image, or why it cannot be read.

    Attributes:
        name: where it lies, for people.
        image: uint8, shape (H, W, C); None if it cannot be read.
        label: class index; None if its place says none.
        reason: why it cannot be read.
    """

    name: str
    image: ImageArray | None
    label: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Source:
    """Images, not read yet.

    Attributes:
        items: to be gone through once.
        total: how many there are; None if only the end will tell.
        classes: their names; None where labels are bare numbers, or there are none.
    """

    items: Iterable[SourceImage]
    total: int | None = None
    classes: tuple[str, ...] | None = None


# From what a recipe says, and the size (height and width) and channels that it wants; RecipeError if there is nothing.
OpenSource = Callable[[Data, int, int], Source]
