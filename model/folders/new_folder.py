"""Folders that are written completely or not at all. It needs no torch."""

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import SUMS, file_sha256, sums_of


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder that replaces `folder`, with SHA256SUMS of its files, when the block ends without an exception."""
    with replacing(folder) as fresh:
        yield fresh
        files = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
        sums = sums_of({str(name): file_sha256(fresh / name) for name in files})
        (fresh / SUMS).write_text(sums, encoding="utf-8")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Gives an empty folder that replaces `folder` when the block ends without an exception."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield fresh
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
