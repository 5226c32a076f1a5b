"""Reading and writing files of a local folder, complete or not at all."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath


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
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        prune(path.parent, top)


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
