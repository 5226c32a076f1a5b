"""Image files in folders and zip archives; the folder that contains a file is its class."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, TypeVar

from difuso.archive_names import name_of
from difuso.model.shape import Shape

from ..errors import RecipeError
from ..recipe import Data
from .images import SUFFIXES, ImageArray, decode, decode_map, list_images
from .source_images import Source, SourceImage

Decode = Callable[[Path | BinaryIO], ImageArray]  # `images.decode` for a recipe
Name = TypeVar("Name", bound=PurePath)

SLAB = 1024  # largest number of files read ahead


def open_folder(data: Data, shape: Shape) -> Source:
    """Opens every image below a folder."""
    return _folder(data, partial(decode, shape=shape, bits=data.bits))


def open_zip(data: Data, shape: Shape) -> Source:
    """Opens every image in a zip archive."""
    return _zip(data, partial(decode, shape=shape, bits=data.bits))


def open_maps(data: Data, shape: Shape, *, count: int) -> Source:
    """Opens every map of indices below a folder, or in a zip archive; see `decode_map`."""
    opened = _zip if zipfile.is_zipfile(data.path) else _folder
    return opened(data, partial(decode_map, shape=shape, count=count))


def image_names(path: Path) -> list[PurePath]:
    """Returns the names of all images below a folder, or in a zip archive; raises RecipeError if there are none."""
    if path.is_dir():
        return [image.relative_to(path) for image in list_images(path)]
    return [*_stored(_archive(path))]


def _folder(data: Data, decoded: Decode) -> Source:
    root = Path(data.path)
    paths = list_images(root)
    return _source(data, [path.relative_to(root) for path in paths], lambda name: root / name, decoded)


def _zip(data: Data, decoded: Decode) -> Source:
    archive = _archive(Path(data.path))
    stored = _stored(archive)
    return _source(data, [*stored], lambda name: io.BytesIO(archive.read(stored[name])), decoded)


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise RecipeError(f"there is no file {path}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise RecipeError(f"{path} cannot be read as a zip archive: {error}") from error


def _stored(archive: zipfile.ZipFile) -> dict[PurePath, str]:
    """Returns the entries of an archive that are images, by their paths, in the order of a folder."""
    names = {PurePosixPath(name_of(each)): each.filename for each in archive.infolist()}
    stored: dict[PurePath, str] = {path: names[path] for path in sorted(names) if _is_image(path)}
    if not stored:
        raise RecipeError(f"there are no images in {archive.filename}: no file ends in {', '.join(sorted(SUFFIXES))}")
    return stored


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES and path.parts[0] != "__MACOSX"


def read_item(name: str, opened: Callable[[], Path | BinaryIO], label: int | None, *, decoded: Decode) -> SourceImage:
    """Reads an image as an item, which says why if it cannot be read."""
    try:
        return SourceImage(name, decoded(opened()), label)
    except Exception as error:  # Pillow raises many kinds of errors; one bad file must not end a run
        return SourceImage(name, None, label, f"{type(error).__name__}: {error}")


def _source(
    data: Data, names: Sequence[PurePath], opened: Callable[[PurePath], Path | BinaryIO], decoded: Decode
) -> Source:
    classes = tuple(sorted({name.parent.name for name in names} - {""}))
    labels = {folder: label for label, folder in enumerate(classes)}
    names = of_split(names, data)

    def read(name: PurePath) -> SourceImage:
        return read_item(str(name), partial(opened, name), labels.get(name.parent.name), decoded=decoded)

    return Source(_in_threads(read, names), len(names), classes or None)


def _in_threads(read: Callable[[PurePath], SourceImage], names: Sequence[PurePath]) -> Iterator[SourceImage]:
    """Reads files in several threads, in order; Pillow lets other threads run while it decodes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(names), SLAB):
            yield from pool.map(read, names[first : first + SLAB])


def of_split(names: Sequence[Name], data: Data) -> list[Name]:
    """Keeps the names that belong to `data.split`, in their order: those that are reserved for `test`, else the others.

    An image is reserved if the SHA-256 of its file's name, without folders and suffix, is one of the `data.reserved`
    smallest. So the choice does not depend on the order of the files, or on their folder or archive. An image and its
    condition are chosen together, and most of the choice stays when files are added.

    Raises RecipeError if nothing would be left to train on.
    """
    if not data.reserved:
        return list(names)
    if data.reserved >= len(names):
        raise RecipeError(f"{data.path} holds {len(names)} images: data.reserved must be less, not {data.reserved}")
    reserved = set(sorted(names, key=_rank)[: data.reserved])
    return [name for name in names if (name in reserved) == (data.split == "test")]


def _rank(name: PurePath) -> tuple[str, str]:
    """Returns the place in the order of reservation; the whole name decides between files of one name."""
    return sha256(name.stem.encode()).hexdigest(), name.with_suffix("").as_posix()
