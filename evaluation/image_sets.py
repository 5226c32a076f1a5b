"""Pictures to be measured, one batch after another: 50,000 large ones need not lie in memory together."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from training.images import ImageArray, list_images

ARRAY = "arr_0"  # of ADM's files of samples; of its reference files too


class EvaluationError(ValueError):
    """Something cannot be measured; the message says why, and what can be done."""


@dataclass(frozen=True)
class Pictures:
    """A set of pictures of one size.

    Attributes:
        name: in tables and plots.
        count: how many there are.
        batches: called with the size of a batch; yields uint8 arrays of shape (at most that many, H, W, 3).
    """

    name: str
    count: int
    batches: Callable[[int], Iterator[ImageArray]]


def gather(pictures: Pictures, tell: Callable[[float], None] = lambda share: None) -> ImageArray:
    """All of them in one array, shape (N, H, W, 3).

    Args:
        tell: called with the share that is there, 0..1.
    """
    batches: list[ImageArray] = []
    for batch in pictures.batches(32):
        batches.append(batch)
        tell(sum(map(len, batches)) / pictures.count)
    return np.concatenate(batches)


def from_array(name: str, images: ImageArray) -> Pictures:
    """Those of an array, shape (N, H, W, C) with C 1 or 3; grey becomes three equal channels."""
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    return Pictures(
        name, len(images), lambda size: (images[first : first + size] for first in range(0, len(images), size))
    )


def drawn(name: str, draw: Callable[[int, int], ImageArray], count: int) -> Pictures:
    """Those of a sampling function, drawn when they are asked for.

    Args:
        draw: called as draw(first, count), gives pictures first ... first + count - 1, the same ones each time.
    """
    return Pictures(
        name, count, lambda size: (draw(first, min(size, count - first)) for first in range(0, count, size))
    )


def from_folder(folder: Path, count: int | None = None) -> Pictures:
    """Every picture below a folder as it is, in an order that is random and always the same.

    Args:
        count: take as many of them; None is all.

    Raises:
        RecipeError: if there are none.
        EvaluationError: if there are fewer; while reading, if one cannot be read or has another size.
    """
    paths = list_images(folder)
    random.Random(0).shuffle(paths)  # else a part would hold few of the classes, and figures that split it would err
    return Pictures(folder.name, _enough(len(paths), count, folder), lambda size: _read_files(paths[:count], size))


def _read_files(paths: list[Path], size: int) -> Iterator[ImageArray]:
    expected = _read_file(paths[0]).shape
    for first in range(0, len(paths), size):
        images = []
        for path in paths[first : first + size]:
            image = _read_file(path)
            if image.shape != expected:
                sizes = " and ".join(f"{width}x{height}" for height, width, _ in (expected, image.shape))
                raise EvaluationError(
                    f"{path.parent} holds pictures of {sizes}: bring them to one size, all in the same way, because "
                    "every figure depends on how"
                )
            images.append(image)
        yield np.stack(images)


def _read_file(path: Path) -> ImageArray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds
        raise EvaluationError(f"{path} cannot be read ({type(error).__name__}): take it out of the folder") from error


def from_npz(path: Path, count: int | None = None) -> Pictures:
    """Those of a file in the layout of guided-diffusion: `arr_0`, uint8 of shape (N, H, W, 3); read as a stream.

    Args:
        count: take the first ones only; None is all.

    Raises:
        EvaluationError: if the file is no such file, or has fewer.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{ARRAY}.npy") as file:
            shape, fortran, dtype = _read_header(file)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise EvaluationError(f"{path} is no .npz file with pictures in {ARRAY}: {error}") from error
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
        raise EvaluationError(f"{path} holds {dtype} of shape {shape} in {ARRAY}; it should be uint8, (N, H, W, 3)")
    total = _enough(shape[0], count, path)

    def batches(size: int) -> Iterator[ImageArray]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{ARRAY}.npy") as file:
            _read_header(file)
            for first in range(0, total, size):
                rows = min(size, total - first)
                data = file.read(rows * int(np.prod(shape[1:])))
                yield np.frombuffer(data, np.uint8).reshape(rows, *shape[1:])

    return Pictures(path.stem, total, batches)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _enough(there: int, wanted: int | None, where: Path) -> int:
    if wanted is not None and there < wanted:
        raise EvaluationError(f"{where} holds {there} pictures, not {wanted}")
    return there if wanted is None else wanted
