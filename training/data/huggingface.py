"""Sets of Hugging Face datasets, which need the extra `huggingface`."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from difuso.model.shape import Shape

from ..errors import RecipeError
from ..recipe import Data
from .image_files import read_item
from .images import decode
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
