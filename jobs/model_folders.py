"""The folders of models: their names, and the marks by which a change is seen."""

import re
from contextlib import suppress
from pathlib import Path

from difuso.model.folders.version import model_of
from difuso.model.formats.folders import holds_config

from .params import MODEL_NAME

NO_NAME = (
    "the name of a model has at most 64 characters: a-z, 0-9, dots, dashes and underscores, of which the first is a "
    "letter or digit; a further version of it has @ and a tag of at most 32 such characters behind; rename the folder"
)
_FOLDER = re.compile(rf"(?P<name>{MODEL_NAME.strip('^$')})(?:@[a-z0-9][a-z0-9._-]{{0,31}})?")

# The path, size and modification time (in nanoseconds) of each file of a model.
Mark = tuple[tuple[str, int, int], ...]


def newest_first(folder: str, mark: Mark) -> tuple[bool, int, str]:
    """Returns a key that sorts the folders of a model: NAME, then NAME@TAG, of which the one changed last is first."""
    return folder != model_of(folder), -max((modified for _, _, modified in mark), default=0), folder


def model_folders(folder: Path) -> list[Path]:
    """Returns the folders that may be models, sorted by name. A request's model is looked up here, never in a path."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and _FOLDER.fullmatch(path.name))


def passed_over(folder: Path) -> dict[str, str]:
    """Returns the folders that hold a config but cannot be models by their name, each with the reason."""
    if not folder.is_dir():
        return {}
    named = {path.name for path in model_folders(folder)}
    others = sorted(path for path in folder.iterdir() if path.name not in named and not path.name.startswith("."))
    return {path.name: NO_NAME for path in others if holds_config(path)}


def model_marks(folder: Path) -> dict[str, Mark]:
    """Returns the mark of each folder that may be a model, by name, without reading files."""
    return {path.name: mark_of(path) for path in model_folders(folder)}


def mark_of(folder: Path) -> Mark:
    """Returns the mark of one folder."""
    found = []
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):  # no file of a model lies deeper
        with suppress(OSError):  # the file may have been replaced, or be a link to itself
            facts = path.stat()
            found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return tuple(found)
