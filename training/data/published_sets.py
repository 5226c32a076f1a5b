"""Sets of Hugging Face datasets, which need the extra `huggingface`, and of webdataset, which need no extra."""

import io
import json
import tarfile
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from difuso.model.shape import Shape

from ..errors import RecipeError
from ..recipe import Data
from .image_files import Decode, of_split, read_item
from .images import SUFFIXES, decode
from .source_images import Source, SourceImage

UNKNOWN = -1  # of the classes of Hugging Face's sets, as in test halves without labels


def open_huggingface(data: Data, shape: Shape) -> Source:
    """Opens a set that `save_to_disk` wrote, or one of the hub by name: its first columns of images and of classes."""
    import datasets

    rows = _load(datasets, data)
    column = next((name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)), None)
    if column is None:
        raise RecipeError(f"{data.path} has no column of images: its columns are {', '.join(rows.features)}")
    named = {name: kind.names for name, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)}
    label = next(iter(named), None)
    rows = rows.cast_column(column, datasets.Image(decode=False))
    decoded = partial(decode, shape=shape, bits=data.bits)

    def items() -> Iterator[SourceImage]:
        for i, row in enumerate(rows):
            known = {name: row[name] for name in named if row[name] not in (None, UNKNOWN)}
            values = {**row, **dict.fromkeys(named), **{name: named[name][value] for name, value in known.items()}}
            opened = partial(_opened, row[column])
            item = read_item(f"{data.split}[{i}]", opened, None if label is None else known.get(label), decoded=decoded)
            yield item._replace(values=values)

    classes = None if label is None else tuple(named[label])
    return Source(items(), len(rows), classes, tuple(rows.features))


def _opened(stored: Any) -> Path | BinaryIO:
    return Path(stored["path"]) if stored["bytes"] is None else io.BytesIO(stored["bytes"])


def _load(datasets: Any, data: Data) -> Any:
    try:
        if not Path(data.path).is_dir():
            return datasets.load_dataset(data.path, split=data.split)
        loaded = datasets.load_from_disk(data.path)
        return loaded[data.split] if isinstance(loaded, datasets.DatasetDict) else loaded
    except Exception as error:  # errors of the hub, the network and the format
        raise RecipeError(f"the set {data.path} cannot be loaded: {error}") from error


def open_webdataset(data: Data, shape: Shape) -> Source:
    """Opens tar files: one file, a folder of them, or a `*` pattern.

    Each key has an image, and may have its class in a `.cls` file and the values of its conditions as an object in a
    `.json` file.
    """
    path = Path(data.path)
    shards = sorted(path.glob("*.tar")) if path.is_dir() else sorted(path.parent.glob(path.name))
    if not shards:
        raise RecipeError(f"there are no .tar files at {path}")
    decoded = partial(decode, shape=shape, bits=data.bits)

    def samples() -> Iterator[tuple[PurePosixPath, dict[str, bytes]]]:
        for shard in shards:
            for key, files in groupby(_members(shard), lambda member: member[0]):
                yield PurePosixPath(shard.name, key), {suffix: content for _, suffix, content in files}

    def items() -> Iterator[SourceImage]:
        chosen = set(of_split([name for name, _ in samples()], data)) if data.reserved else None
        for name, contents in samples():
            if chosen is None or name in chosen:
                yield _sample_item(str(name), contents, decoded)

    return Source(items(), columns=None)


def _members(shard: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yields (key, suffix, content) of each file in an archive; the suffix begins at the first dot of the name."""
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    folder, slash, name = member.name.rpartition("/")
                    key, _, suffix = name.partition(".")
                    yield folder + slash + key, f".{suffix}".lower(), file.read()
    except (OSError, tarfile.TarError) as error:
        raise RecipeError(f"{shard} cannot be read as a tar archive: {error}") from error


def _sample_item(name: str, files: dict[str, bytes], decoded: Decode) -> SourceImage:
    image = next((content for suffix, content in files.items() if suffix in SUFFIXES), None)
    if image is None:
        return SourceImage(name, None, None, "there is no image of this key")
    try:
        label = int(files[".cls"]) if ".cls" in files else None
    except ValueError:
        return SourceImage(name, None, None, "its .cls file holds no number")
    try:
        values = json.loads(files.get(".json", b"{}"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return SourceImage(name, None, None, "its .json file holds no object")
    return read_item(name, lambda: io.BytesIO(image), label, decoded=decoded)._replace(values=values)
