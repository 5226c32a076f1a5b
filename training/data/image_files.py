"""Image files in folders and zip archives; the folder that contains a file is its class."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from model.shape import Shape

from ..errors import RecipeError
from ..recipe import Data
from .images import SUFFIXES, ImageArray, decode, list_images
from .reserved import of_split
from .source_images import Source, SourceImage

Decode = Callable[[Path | BinaryIO], ImageArray]  # `images.decode` for a recipe

SLAB = 1024  # largest number of files read ahead


def open_folder(data: Data, shape: Shape) -> Source:
    """Opens every image below a folder."""
    root = Path(data.path)
    paths = list_images(root)
    return _source(data, [path.relative_to(root) for path in paths], lambda name: root / name, shape)


def open_zip(data: Data, shape: Shape) -> Source:
    """Opens every image in a zip archive."""
    try:
        archive = zipfile.ZipFile(data.path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RecipeError(f"{data.path} cannot be read as a zip archive: {error}") from error
    names = [PurePosixPath(name) for name in sorted(archive.namelist()) if not name.startswith("__MACOSX/")]
    names = [name for name in names if name.suffix.lower() in SUFFIXES]
    if not names:
        raise RecipeError(f"there are no images in {data.path}: no file ends in {', '.join(sorted(SUFFIXES))}")
    return _source(data, names, lambda name: io.BytesIO(archive.read(str(name))), shape)


def read_item(name: str, opened: Callable[[], Path | BinaryIO], label: int | None, *, decoded: Decode) -> SourceImage:
    """Reads an image as an item, which says why if it cannot be read."""
    try:
        return SourceImage(name, decoded(opened()), label)
    except Exception as error:  # Pillow raises many kinds of errors; one bad file must not end a run
        return SourceImage(name, None, label, f"{type(error).__name__}: {error}")


def _source(
    data: Data, names: Sequence[PurePath], opened: Callable[[PurePath], Path | BinaryIO], shape: Shape
) -> Source:
    classes = tuple(sorted({name.parent.name for name in names} - {""}))
    labels = {folder: label for label, folder in enumerate(classes)}
    decoded = partial(decode, shape=shape, bits=data.bits)
    names = of_split(names, data)

    def read(name: PurePath) -> SourceImage:
        return read_item(str(name), partial(opened, name), labels.get(name.parent.name), decoded=decoded)

    return Source(_in_threads(read, names), len(names), classes or None)


def _in_threads(read: Callable[[PurePath], SourceImage], names: Sequence[PurePath]) -> Iterator[SourceImage]:
    """Reads files in several threads, in order; Pillow lets other threads run while it decodes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(names), SLAB):
            yield from pool.map(read, names[first : first + SLAB])
