"""Reading and writing files of a local folder, complete or not at all."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

TRIES = 20  # to put a file into a folder that others remove while it is empty


def read_file(path: PurePosixPath) -> bytes:
    """Reads a regular file; any other kind raises OSError, because reading a pipe might block for ever."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        return file.read()


@contextmanager
def temporary_file(path: Path, data: bytes, *, top: Path) -> Iterator[Path]:
    """Yields a complete, synced temporary file next to `path`; at the end deletes it, and empty folders below `top`."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with _opened(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        prune(path.parent, top)


def _opened(path: Path, tries: int = TRIES) -> BinaryIO:
    """Opens a new file, and makes its folders, again if another process removes them because they are still empty."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except (FileNotFoundError, FileExistsError):  # the second where a folder went while `mkdir` looked at it
        if tries == 1:
            raise
    return _opened(path, tries - 1)


def prune_all(top: Path, *, before: float) -> None:
    """Removes the folders below `top` that are empty and have been so since `before`, in seconds since the epoch."""
    for name, folders, files in os.walk(top, topdown=False):
        with suppress(FileNotFoundError):  # several workers may sweep at once
            if not folders and not files and os.stat(name).st_mtime < before:
                prune(Path(name), top)


def prune(folder: Path, top: Path) -> None:
    """Removes folders that are empty, up to `top`."""
    while folder != top:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass  # on a full disk not all folders were made
        except OSError:
            return
        folder = folder.parent
