"""Reads the small files of a checkpoint folder, which may be hostile. It needs no torch: front ends read them too.

Every read has a limit, and none can block: a pipe in the place of a file is refused. A file that cannot be
read at the moment is an OSError.

The version of a model is one SHA-256 over the files that decide what it draws, which a shell can make, too:

    cd checkpoints/faces64 && sha256sum config.json model.safetensors | sha256sum

The card, the sheet and the curves are not among these files. Nor is the code of a network of another package.
"""

import errno
import hashlib
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from ..errors import CheckpointError, MissingFolder

CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"
CLASSIFIER, WEAKER = "classifier.safetensors", "weaker.safetensors"  # of networks that guide the model
CARD, SHEET, LOSSES, METRICS = "README.md", "sheet.png", "losses.png", "metrics.jsonl"  # about a model, for people
QUALITY = "quality.json"  # what `difuso evaluate quality` wrote
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
MAX_FILE = 1 << 20  # bytes of a config or SHA256SUMS; a config with the names of 22,000 classes has half of that
MAX_HEADER = 1 << 21  # bytes of a safetensors header; a header of 2,000 tensors has a tenth of that
LONGEST_NUMBER = 8  # bytes of the longest type of number in a tensor
VERSION = r"^[0-9a-f]{64}$"
DIGITS = 12  # of a version in the names of queues, which are enough to distinguish the versions of a model
NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # facts of a folder; any other error is one of the disk


@dataclass(frozen=True)
class _Entry:
    """What counts of an entry of a safetensors header; that of the metadata has no shape."""

    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Field(max_length=8)] | None = None


HEADER = TypeAdapter(dict[str, _Entry])


def is_file(path: Path) -> bool:
    """Returns whether a path leads to a regular file; raises OSError if the disk does not say."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Returns whether a path leads to a folder; raises OSError if the disk does not say."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """Returns the kind and permissions of the file at a path; 0 if there is none."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return 0
        raise


def require_folder(folder: Path) -> None:
    """Raises MissingFolder if a folder is missing."""
    if not is_folder(folder):
        error = MissingFolder("there is no such folder")
        error.add_note(f"It was looked for at {folder.absolute()}.")  # a note, which clients of a server never see
        raise error


def require_file(folder: Path, name: str) -> None:
    """Raises CheckpointError if a file is missing; the message has a hint if there are pickled weights instead."""
    if not is_file(folder / name):
        require_folder(folder)
        pickles = [path.name for path in sorted((folder / name).parent.glob("*")) if path.suffix in PICKLES]
        hint = f"; {pickles[0]} is a pickle, which is never loaded: `difuso convert` reads it" if pickles else ""
        raise CheckpointError(f"{name} is missing{hint}")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Reads the JSON object in a file; deep nesting and lone surrogates are refused.

    Raises CheckpointError if the file is missing, too long or not a JSON object.
    """
    try:
        content = from_json(read_bytes(folder, name))
    except ValueError as error:
        raise CheckpointError(f"{name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name} is not a JSON object")
    return content


def read_sums(folder: Path) -> dict[str, str]:
    """Reads the digests of SHA256SUMS by file name; raises CheckpointError if it is missing, too long or unknown."""
    try:
        text = read_bytes(folder, SUMS).decode("utf-8")
        lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
        return {name.strip().lstrip("*"): digest for digest, name in lines}
    except ValueError as error:
        raise CheckpointError(f"{SUMS} is not in the format of sha256sum: write it with `sha256sum`") from error


def read_shapes(folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Reads the shapes of the tensors from the header of a safetensors file: eight bytes of length, then JSON.

    Raises CheckpointError if the file is missing, not in this format, or longer than its tensors can be.
    """
    require_file(folder, name)
    with (folder / name).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= MAX_HEADER else b""
    size = (folder / name).stat().st_size
    try:
        entries = HEADER.validate_json(header)
    except ValueError as error:
        raise CheckpointError(f"{name} is not a safetensors file, or its header is too long") from error
    shapes = {tensor: entry.shape for tensor, entry in entries.items() if entry.shape is not None}
    if size > 8 + length + LONGEST_NUMBER * sum(map(math.prod, shapes.values())):
        raise CheckpointError(f"{name} is not a safetensors file: it is longer than its header says")
    return shapes


def read_bytes(folder: Path, name: str) -> bytes:
    """Reads a short file as a whole; raises CheckpointError if it is missing or too long."""
    require_file(folder, name)
    with (folder / name).open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise CheckpointError(f"{name} must have at most {MAX_FILE} bytes")
    return content


def file_sha256(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of(digests: Mapping[str, str]) -> str:
    """Returns the content of SHA256SUMS, from the SHA-256 of each file by its path."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def version_of(digests: Mapping[str, str]) -> str:
    """Returns the version of a model, in hexadecimal, from the SHA-256 of each deciding file by its path."""
    return hashlib.sha256(sums_of(dict(sorted(digests.items()))).encode()).hexdigest()


def model_of(name: str) -> str:
    """Returns the name of a model by that of its folder, NAME or for a further version NAME@TAG, or by a ref."""
    return name.partition("@")[0]


def ref_of(model: str, version: str) -> str:
    """Returns the short name of one version of a model: faces64@1a2b3c4d5e6f."""
    return f"{model}@{version[:DIGITS]}"
