"""What recipes choose by name, and where it is. Modules are named, not imported: recipes are checked without them."""

from __future__ import annotations

from typing import NamedTuple


class SourceChoice(NamedTuple):
    """A source of images.

    Attributes:
        module: the module of `training.data` with the function `open_NAME`, which does what `open_source` does.
        reserves: whether images have names, but no test half, so that `data.reserved` can choose some of them.
    """

    module: str
    reserves: bool = False


SOURCES = {
    "faces": SourceChoice("faces"),
    "folder": SourceChoice("image_files", reserves=True),
    "zip": SourceChoice("image_files", reserves=True),
    "npz": SourceChoice("array_files"),
    "idx": SourceChoice("array_files"),
    "huggingface": SourceChoice("published_sets"),
    "webdataset": SourceChoice("published_sets", reserves=True),
}
