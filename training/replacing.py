"""Files that are replaced whole: a reader finds the old content or the new, whenever the writer was killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yields a new file that replaces `path` once it is complete and on the disk; not if the block raises."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def replace_text(path: Path, text: str) -> None:
    """Writes a text file, or replaces it."""
    with replacing(path) as file:
        file.write(text.encode())
