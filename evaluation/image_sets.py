"""Sets of images to measure, read or drawn batch by batch, so that 50,000 large ones need not fit in memory."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import numpy as np

from training.data.images import ImageArray, list_images, opened

from .errors import EvaluationError

ARRAY = "arr_0"  # the name in ADM's files of samples, and in its reference files


@dataclass(frozen=True)
class ImageSet:
    """Images of one size."""

    name: str  # name in tables and plots
    count: int  # number of images
    # called with the size of a batch; yields uint8 arrays of shape (at most that size, H, W, 3)
    batches: Callable[[int], Iterator[ImageArray]]
    # how a model drew them, with at least `sampler`, `spacing` and `steps`; None for images that are read
    drawn_by: Mapping[str, Any] | None = None
    # called after the last batch; None if the time to draw an image is not known
    seconds_per_image: Callable[[], float | None] = lambda: None

    def load(self, tell: Callable[[float], None] = lambda share: None) -> ImageArray:
        """Loads all images, shape (N, H, W, 3); `tell` is called with the share that is loaded, 0..1."""
        batches: list[ImageArray] = []
        for batch in self.batches(32):
            batches.append(batch)
            tell(sum(map(len, batches)) / self.count)
        return np.concatenate(batches)


def from_array(name: str, images: ImageArray) -> ImageSet:
    """Makes a set of an array of shape (N, H, W, C) with C 1 or 3; grey becomes three equal channels.

    Raises EvaluationError if C is another number, for which no network has features.
    """
    if images.shape[3] not in (1, 3):
        raise EvaluationError(f"figures are of grey or RGB images, and {name} has {images.shape[3]} channels")
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    return drawn(name, lambda first, count: images[first : first + count], len(images))


def drawn(name: str, draw: Callable[[int, int], ImageArray], count: int) -> ImageSet:
    """Makes a set of images that a function draws when they are needed.

    draw(first, count) returns images first ... first + count - 1, the same ones each time.
    """

    def batches(size: int) -> Iterator[ImageArray]:
        return (draw(first, min(size, count - first)) for first in range(0, count, size))

    return ImageSet(name, count, batches)


def from_path(path: Path, count: int | None = None) -> ImageSet:
    """Makes a set of `count` images, or of all, of a folder or of an .npz file, in their own size.

    Raises:
        EvaluationError: if the path is neither, or holds too few images; while reading, if an image cannot be read or
            has another size than the first one.
        RecipeError: if a folder holds no images.
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
    return ImageSet(folder.name, _enough(len(paths), count, folder), lambda size: _read_files(paths[:count], size))


def _read_files(paths: list[Path], size: int) -> Iterator[ImageArray]:
    expected = _read_file(paths[0]).shape
    for first in range(0, len(paths), size):
        images = []
        for path in paths[first : first + size]:
            image = _read_file(path)
            if image.shape != expected:
                sizes = " and ".join(f"{width}x{height}" for height, width, _ in (expected, image.shape))
                raise EvaluationError(
                    f"{path.parent} holds images of {sizes}: bring them to one size, all in the same way, because "
                    "every figure depends on the method"
                )
            images.append(image)
        yield np.stack(images)


def _read_file(path: Path) -> ImageArray:
    try:
        return np.asarray(opened(path, channels=3))
    except Exception as error:  # Pillow raises many kinds of errors
        raise unreadable(path, error) from error


def _from_npz(path: Path, count: int | None) -> ImageSet:
    """Opens a file in the layout of guided-diffusion: `arr_0`, uint8 of shape (N, H, W, C), is read as a stream.

    Grey images, C = 1, become three equal channels.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{ARRAY}.npy") as file:
            shape, fortran, dtype = _read_header(file)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise EvaluationError(f"{path} is not an .npz file with images in {ARRAY}: {error}") from error
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or fortran:
        wanted = "uint8, (N, H, W, 3), or grey (N, H, W, 1)"
        raise EvaluationError(f"{path} holds {dtype} of shape {shape} in {ARRAY}; it should be {wanted}")
    total = _enough(shape[0], count, path)
    # Of some of the images, these are spread over all: such files are often sorted by class.
    chosen = np.zeros(shape[0], bool)
    chosen[np.random.default_rng(0).permutation(shape[0])[:total]] = True

    def batches(size: int) -> Iterator[ImageArray]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{ARRAY}.npy") as file:
            _read_header(file)
            for first in range(0, shape[0], size):
                rows = min(size, shape[0] - first)
                data = file.read(rows * int(np.prod(shape[1:])))
                images = np.frombuffer(data, np.uint8).reshape(rows, *shape[1:])[chosen[first : first + rows]]
                if len(images):
                    yield np.broadcast_to(images, (*images.shape[:3], 3))

    return ImageSet(path.stem, total, batches)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


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
