"""The large files of a checkpoint folder: checked when they are read, and written completely or not at all."""

import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from .config import ModelConfig
from .files import SUMS, file_sha256, read_bytes, read_sums, require_file


@dataclass(frozen=True)
class FolderContents:
    """The content of a folder, before a network is built for it."""

    config: ModelConfig  # the model's config
    # the tensors of the network, and of the classifier and the weaker network if there are any, by the names of their
    # files; in each by the names of our network, in any floating-point type
    weights: dict[str, dict[str, Tensor]]
    digests: dict[str, str]  # the hexadecimal SHA-256 of each file that decides what is drawn, by its path


def checked_sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the digests of SHA256SUMS; raises CheckpointError if it or a file is missing, or a digest differs."""
    sums = read_sums(folder)
    for name in names:
        require_file(folder, name)
        if name.endswith(".json"):  # read with a limit, because it may be hostile
            digest = hashlib.sha256(read_bytes(folder, name)).hexdigest()
        else:
            digest = file_sha256(folder / name)
        if digest != sums.get(name):
            raise CheckpointError(f"{name} does not match its SHA-256 sum: it was damaged or edited")
    return sums


def read_safetensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Reads the tensors in a file, by name; raises CheckpointError if it is not a safetensors file."""
    try:
        return load_file(folder / name)
    except SafetensorError as error:
        raise CheckpointError(f"{name} is not a safetensors file: {error}") from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder that replaces `folder`, with SHA256SUMS of its files, when the block ends without an exception."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield fresh
        files = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
        sums = "".join(f"{file_sha256(fresh / name)}  {name}\n" for name in files)
        (fresh / SUMS).write_text(sums, encoding="utf-8")
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # mkdtemp makes folders that only their owner may read
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            _exchange(fresh, folder)
        else:
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _exchange(fresh: Path, folder: Path) -> None:
    """Swaps two folders. On Linux it is one step, so that a kill at any moment leaves a folder under each name."""
    if sys.platform == "linux":
        at_fdcwd, rename_exchange = -100, 2
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # old C libraries lack it
        paths = (at_fdcwd, os.fsencode(fresh), at_fdcwd, os.fsencode(folder))
        if renameat2 is not None and renameat2(*paths, rename_exchange) == 0:
            return
    aside = fresh.with_name(fresh.name + ".old")  # three steps, where the system or the disk cannot swap in one
    folder.rename(aside)
    fresh.rename(folder)
    aside.rename(fresh)
