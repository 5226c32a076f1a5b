"""Workers that share a machine, one for each core: one that computes alone may take the cores of all.

Each core is a file. Its worker locks it for as long as it has work, and whoever wants all cores locks all files for one
call of a network. The system frees the locks of a worker that dies.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

PATIENCE_SECONDS = 2.0  # above the longest step that workers on a CPU allow themselves
POLL_SECONDS = 0.0005  # a neighbour gives the core back for about a millisecond between two calls


class OwnCore:
    """The core that a worker has for itself.

    Args:
        lock: its file; None for a worker that shares the machine with nobody.
    """

    def __init__(self, lock: Path | None) -> None:
        self._file = None if lock is None else _open(self, lock)
        self._taken = False

    def take(self) -> None:
        """Takes the core; waits for the network call for which a neighbour may have borrowed it.

        Not for longer than PATIENCE_SECONDS: a neighbour may be frozen. Then both use the core.
        """
        if self._file is None or self._taken:
            return
        self._taken = True
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not _lock(self._file) and time.monotonic() < give_up_at:
            time.sleep(POLL_SECONDS)

    def leave(self) -> None:
        """Lets neighbours borrow the core until it is taken again."""
        if self._file is not None and self._taken:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._taken = False


class Neighbours:
    """The other workers of a machine, each with a core of its own.

    Args:
        lock: the file of this worker's core, beside those of the others; None if it has no neighbours.
    """

    def __init__(self, lock: Path | None = None) -> None:
        others = [] if lock is None else [path for path in lock.parent.iterdir() if path != lock]
        self._files = [_open(self, path) for path in others]

    def __len__(self) -> int:
        return len(self._files)

    @contextmanager
    def at_rest(self) -> Iterator[bool]:
        """Borrows the neighbours' cores for the length of a block; yields False, and has none, if one has work."""
        taken = list(takewhile(_lock, self._files))
        all_free = len(taken) == len(self._files)
        if not all_free:
            _unlock(taken)
            taken = []
        try:
            yield all_free
        finally:
            _unlock(taken)


def _lock(file: int) -> bool:
    """Locks a file, unless somebody else has; returns whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(files: Iterable[int]) -> None:
    for file in files:
        fcntl.flock(file, fcntl.LOCK_UN)


def _open(owner: object, path: Path) -> int:
    """Returns a descriptor that is closed, and with it the file unlocked, when its owner is gone."""
    descriptor = os.open(path, os.O_RDONLY)
    weakref.finalize(owner, os.close, descriptor)
    return descriptor
