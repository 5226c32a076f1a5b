"""The images of a set without a test half that no run sees, chosen by the names of their files."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import PurePath
from typing import TypeVar

from ..errors import RecipeError
from ..recipe import Data

Name = TypeVar("Name", bound=PurePath)


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
