"""The folders of models: their names, the marks by which a change is seen, and the files that describe a model."""

import re
from collections.abc import Iterable
from contextlib import suppress
from os.path import realpath
from pathlib import Path

from pydantic_core import from_json

from difuso.model.folders.config import ModelConfig
from difuso.model.folders.files import CARD, LOSSES, METRICS, SHEET, is_file, model_of
from difuso.model.folders.labels import LABELS, Labels, check_labels, read_labels
from difuso.model.formats.folders import holds_config

from .params import MODEL_NAME
from .traffic import SHARES

NO_NAME = (
    "the name of a model has at most 64 characters: a-z, 0-9, dots, dashes and underscores, of which the first is a "
    "letter or digit; a further version of it has @ and a tag of at most 32 such characters behind; rename the folder"
)
FOLDER = re.compile(rf"(?P<name>{MODEL_NAME.strip('^$')})(?:@[a-z0-9][a-z0-9._-]{{0,31}})?")

CARD_BYTES, FIGURE_BYTES, LABELS_BYTES = 1 << 20, 1 << 24, 1 << 18  # at most
FILES = {
    "card": (CARD, CARD_BYTES),
    "sheet": (SHEET, FIGURE_BYTES),
    "losses": (LOSSES, FIGURE_BYTES),
    "metrics": (METRICS, FIGURE_BYTES),
}
ABOUT_LENGTH = 160  # characters
HEAD_BYTES = 4096  # of a card, in which its first sentence is looked for
FRONT_MATTER = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)
NO_PARAGRAPH = re.compile(r"[#|<>\s-]|!\[|```")  # a heading, a table, a tag, a list, code, or a picture
MARKUP = re.compile(r"[`*]|!?\[([^\]]*)\]\([^)]*\)")

# The path, size and modification time (in nanoseconds) of each file of a model.
Mark = tuple[tuple[str, int, int], ...]


def newest_first(folder: str, mark: Mark) -> tuple[bool, int, str]:
    """Returns a key that sorts the folders of a model: NAME, then NAME@TAG, of which the one changed last is first."""
    return folder != model_of(folder), -max((modified for _, _, modified in mark), default=0), folder


def model_folders(*folders: Path) -> list[Path]:
    """Returns the folders that may be models, of each folder sorted by name; of two with one name the first.

    A request's model is looked up here, never in a path.
    """
    found: dict[str, Path] = {}
    for folder in filter(Path.is_dir, folders):
        for path in sorted(folder.iterdir()):
            if path.is_dir() and FOLDER.fullmatch(path.name):
                found.setdefault(path.name, path)
    return [*found.values()]


def passed_over(*folders: Path) -> dict[str, str]:
    """Returns the folders that hold a config but cannot be models by their name, each with the reason."""
    found: dict[str, str] = {}
    for folder in filter(Path.is_dir, folders):
        named = {path.name for path in model_folders(folder)}
        others = sorted(path for path in folder.iterdir() if path.name not in named and not path.name.startswith("."))
        found |= {path.name: NO_NAME for path in others if holds_config(path)}
    return found


def model_marks(*folders: Path) -> dict[str, Mark]:
    """Returns the mark of each folder that may be a model, by name, and of all shares, without reading files."""
    files = sorted(path for folder in folders for path in folder.glob(f"*{SHARES}"))
    return {path.name: mark_of(path) for path in model_folders(*folders)} | {"": _mark(files)}


def mark_of(folder: Path) -> Mark:
    """Returns the mark of one folder."""
    return _mark(sorted([*folder.glob("*"), *folder.glob("*/*")]))  # no file of a model lies deeper


def _mark(paths: Iterable[Path]) -> Mark:
    found = []
    for path in paths:
        with suppress(OSError):  # the file may have been replaced, or be a link to itself
            facts = path.stat()
            found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return tuple(found)


def find_document(folder: Path, document: str) -> Path | None:
    """Returns the path of a file about a model, which FILES names; None if it is not there, or if it is too large.

    A link in the folder of a stranger may lead anywhere else; a file outside the folder counts as missing.

    Raises OSError if the disk does not say.
    """
    return _within(folder, *FILES[document])


def labels_of(folder: Path, config: ModelConfig) -> Labels:
    """Returns the labels of a model; none without their file.

    Raises ValueError, which names the place, if the file cannot be used, and else like `find_document`.
    """
    path = _within(folder, LABELS, LABELS_BYTES)
    labels = {} if path is None else read_labels(from_json(path.read_bytes()))
    check_labels(labels, config.declared)
    return labels


def _within(folder: Path, file: str, most: int) -> Path | None:
    folder = Path(realpath(folder))  # `Path.resolve` fails at a link to itself
    path = Path(realpath(folder / file))
    is_usable = path.is_relative_to(folder) and is_file(path) and path.stat().st_size <= most
    return path if is_usable else None


def first_sentence(folder: Path) -> str | None:
    """Returns the first sentence of a model's card; None without one, or where it may not be read.

    Raises like `find_document`.
    """
    path = find_document(folder, "card")
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(HEAD_BYTES).decode("utf-8", "replace").replace("\r", "")
    except PermissionError:
        return None
    blocks = (block.strip("\n") for block in FRONT_MATTER.sub("", text).split("\n\n"))
    first = next((block for block in blocks if block and not NO_PARAGRAPH.match(block)), "")
    sentence = re.split(r"(?<=[.!?])\s", " ".join(MARKUP.sub(r"\1", first).split()))[0]
    return sentence[:ABOUT_LENGTH] or None
