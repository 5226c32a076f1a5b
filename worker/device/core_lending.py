"""Two workers that share two cores: one that has work alone may compute on both.

Each worker has two files. It locks the first for as long as it has work. Whoever computes on its core locks the second:
the worker itself while it has work, or the other worker for one call of a network. The system frees the locks of a
dead process.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

PATIENCE_SECONDS = 2.0  # with a neighbour that may be frozen; a call takes less than a second with most networks
POLL_SECONDS = 0.001


class OwnCore:
    """The core that a worker has for itself; its folder is None if it shares the machine with no other."""

    def __init__(self, folder: Path | None) -> None:
        self._files = None if folder is None else _open(folder)
        self._mutex = Lock()
        self._holders = 0
        self._patience = PATIENCE_SECONDS

    def take(self) -> None:
        """Takes the core for one more holder; waits for the network call for which the neighbour has borrowed it.

        It waits at most PATIENCE_SECONDS, because the neighbour may be frozen. After that both workers use the core.
        """
        if self._files is None:
            return
        with self._mutex:
            self._holders += 1
            if self._holders > 1:
                return
            work, use = self._files
            fcntl.flock(work, fcntl.LOCK_EX)  # the neighbour holds it for a moment only
            give_up_at = time.monotonic() + self._patience
            while not (taken := _lock(use)) and time.monotonic() < give_up_at:
                time.sleep(POLL_SECONDS)
            self._patience = PATIENCE_SECONDS if taken else 0.0

    def leave(self) -> None:
        """Lets the neighbour borrow the core, once all holders have left it."""
        if self._files is None:
            return
        with self._mutex:
            self._holders -= 1
            if not self._holders:
                for file in self._files:
                    fcntl.flock(file, fcntl.LOCK_UN)


class Neighbour:
    """The other worker of two; its folder is None if there is no other."""

    def __init__(self, folder: Path | None = None) -> None:
        self._files = None if folder is None else _open(folder)

    @property
    def exists(self) -> bool:
        return self._files is not None

    @contextmanager
    def at_rest(self) -> Iterator[bool]:
        """Borrows the neighbour's core for the length of a block; yields False, and borrows nothing, if it has work."""
        if self._files is None:
            yield True
            return
        work, use = self._files
        try:
            yield _lock(use) and _lock(work, for_a_moment=True)
        finally:
            fcntl.flock(use, fcntl.LOCK_UN)


@cache
def own_core(folder: Path | None) -> OwnCore:
    """Returns the core of this process, the same one each time."""
    return OwnCore(folder)


@cache
def neighbour_of(folder: Path | None) -> Neighbour:
    """Returns the neighbour of the worker with this folder; `worker.0` and `worker.1` are neighbours."""
    return Neighbour(folder and folder.with_suffix(".1" if folder.suffix == ".0" else ".0"))


def _open(folder: Path) -> tuple[int, int]:
    folder.mkdir(exist_ok=True)
    work, use = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("work", "use"))
    return work, use


def _lock(file: int, *, for_a_moment: bool = False) -> bool:
    """Locks a file, unless somebody else has; returns whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if for_a_moment:
        fcntl.flock(file, fcntl.LOCK_UN)
    return True
