"""Sets of images to measure, read or drawn part by part, so that 50,000 large ones need not fit in memory."""

from __future__ import annotations

import random
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from difuso.training.data.images import ImageArray, list_images, opened

from .errors import EvaluationError

ARRAY = "arr_0"  # the name in ADM's files of samples, and in its reference files


@dataclass(frozen=True)
class ImageSet:
    """Images of one size."""

    name: str  # name in tables and plots
    count: int  # number of images
    # draw(first, count) returns images first ... first + count - 1, uint8 of shape (count, H, W, 3), the same ones each
    # time; most often one part after another, so that reading on is fast
    draw: Callable[[int, int], ImageArray]
    # how a model drew them, with at least `sampler`, `spacing` and `steps`; None for images that are read
    drawn_by: Mapping[str, Any] | None = None

    def batches(self, size: int, report: Callable[[float], None] = lambda share: None) -> Iterator[ImageArray]:
        """Yields all images, at most `size` at a time; `report` is called with the share that is done, 0..1."""
        for first in range(0, self.count, size):
            end = min(first + size, self.count)
            yield self.draw(first, end - first)
            report(end / self.count)

    def load(self) -> ImageArray:
        """Loads all images, shape (N, H, W, 3)."""
        return np.concatenate(list(self.batches(32)))


def from_array(name: str, images: ImageArray) -> ImageSet:
    """Makes a set of an array of shape (N, H, W, C) with C 1 or 3; grey becomes three equal channels.

    Raises EvaluationError if C is another number, for which no network has features.
    """
    if images.shape[3] not in (1, 3):
        raise EvaluationError(f"figures are of grey or RGB images, and {name} has {images.shape[3]} channels")
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    return ImageSet(name, len(images), lambda first, count: images[first : first + count])


def from_path(path: Path, count: int | None = None) -> ImageSet:
    """Makes a set of `count` images, or of all, of a folder or of an .npz file, in their own size.

    Raises EvaluationError if the path is neither, or holds too few images; while reading, if an image cannot be read or
    has another size than the first one. A folder without images is a RecipeError.
    """
    if path.is_dir():
        return _from_folder(path, count)
    if path.suffix == ".npz":
        return _from_npz(path, count)
    raise EvaluationError(f"{path} is neither a folder nor an .npz file")


def shuffled_files(folder: Path) -> list[Path]:
    """Lists every image file below a folder, in a fixed random order; RecipeError if there are none."""
    paths = list_images(folder)
    random.Random(0).shuffle(paths)  # in order of names, a part would hold few classes, and distort figures
    return paths


def unreadable(path: Path, error: Exception) -> EvaluationError:
    """Returns the error for a file that is damaged or not an image."""
    return EvaluationError(f"{path} cannot be read ({type(error).__name__}): take it out of the folder")


def _from_folder(folder: Path, count: int | None) -> ImageSet:
    paths = shuffled_files(folder)
    expected = _read_file(paths[0]).shape

    def read(path: Path) -> ImageArray:
        image = _read_file(path)
        if image.shape != expected:
            sizes = " and ".join(f"{width}x{height}" for height, width, _ in (expected, image.shape))
            raise EvaluationError(
                f"{path.parent} holds images of {sizes}: bring them to one size, all in the same way, because every "
                "figure depends on the method"
            )
        return image

    total = _enough(len(paths), count, folder)
    return ImageSet(folder.name, total, lambda first, size: np.stack([*map(read, paths[first : first + size])]))


def _read_file(path: Path) -> ImageArray:
    try:
        return np.asarray(opened(path, channels=3))
    except Exception as error:  # Pillow raises many kinds of errors
        raise unreadable(path, error) from error


def _from_npz(path: Path, count: int | None) -> ImageSet:
    """Opens a file in the layout of guided-diffusion: `arr_0`, uint8 of shape (N, H, W, C), with C 1 or 3."""
    try:
        # A copy on the disk can be read in parts; to make it reads all, so the checksum is compared.
        with tempfile.NamedTemporaryFile(suffix=".npy") as copy:
            with zipfile.ZipFile(path).open(f"{ARRAY}.npy") as stored:
                shutil.copyfileobj(stored, copy)
            copy.flush()
            images = np.load(copy.name, mmap_mode="r")
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise EvaluationError(f"{path} is not an .npz file with images in {ARRAY}: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        wanted = "uint8, (N, H, W, 3), or grey (N, H, W, 1)"
        raise EvaluationError(f"{path} holds {images.dtype} of shape {images.shape} in {ARRAY}; it should be {wanted}")
    total = _enough(len(images), count, path)
    # Of some of the images, these are spread over all: such files are often sorted by class.
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:total])

    def draw(first: int, size: int) -> ImageArray:
        some = np.asarray(images[chosen[first : first + size]])
        return np.broadcast_to(some, (*some.shape[:3], 3))

    return ImageSet(path.stem, total, draw)


def _enough(there: int, wanted: int | None, where: Path) -> int:
    if wanted is not None and there < wanted:
        raise EvaluationError(f"{where} holds {there} images, not {wanted}")
    return there if wanted is None else wanted


class Half(StrEnum):
    """The purpose of a measurement: one half of the seeds and real images chooses settings, the other reports them.

    The best of many settings looks better than it is on the images that chose it.
    """

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

        def draw(first: int, count: int) -> ImageArray:
            return images.draw(2 * first + offset, 2 * count - 1)[::2]

        return ImageSet(f"{images.name}, {self} half", (images.count + 1 - offset) // 2, draw)
