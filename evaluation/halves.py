"""Two halves of seeds and real images: one to choose settings, the other to report the chosen ones.

The best of many settings looks better than it is on the images that chose it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from training.data.images import ImageArray

from .image_sets import ImageSet


class Half(StrEnum):
    """The purpose of a measurement."""

    CHOOSING = "choosing"
    REPORTING = "reporting"

    @property
    def seed(self) -> int:
        """The seed of image 0, far from those of the other half and from those that are shown."""
        return 3_000_000 if self is Half.CHOOSING else 1_000_000

    @property
    def other(self) -> Half:
        return Half.REPORTING if self is Half.CHOOSING else Half.CHOOSING

    def of(self, images: ImageSet) -> ImageSet:
        """Takes every second image of a set, so that both halves hold all classes of a set that is sorted by them."""
        offset = list(Half).index(self)

        def batches(size: int) -> Iterator[ImageArray]:
            seen = 0
            for batch in images.batches(size):
                if len(own := batch[(offset - seen) % 2 :: 2]):
                    yield own
                seen += len(batch)

        return ImageSet(f"{images.name}, {self} half", (images.count + 1 - offset) // 2, batches)


def first_of(images: ImageSet, count: int, name: str) -> ImageSet:
    """Takes the first images of a set, all if they are fewer, under a name of their own."""

    def batches(size: int) -> Iterator[ImageArray]:
        left = count
        for batch in images.batches(size):
            if left <= 0:
                return
            yield batch[:left]
            left -= len(batch)

    return replace(images, name=name, count=min(count, images.count), batches=batches)
