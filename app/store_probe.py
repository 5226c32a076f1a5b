"""Whether the result store answers and takes files; one that hangs takes few threads."""

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from difuso.jobs.errors import ResultExpired, StoreUnavailable
from difuso.jobs.store.result_store import ResultStore

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # in which the last try holds
PAUSE_SECONDS = 0.25  # between two reads of a store that does not answer

T = TypeVar("T")


class StoreProbe:
    """Tries the store by writing a file, before a job is accepted: at most once in FRESH_SECONDS, and one at a time.

    While the store is known to fail, only the thread that tries again waits for it. So a store that hangs takes no
    more than one thread.
    """

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._trying = Lock()
        self._tried_at = -float("inf")
        self._fails = False

    def takes_files(self) -> bool:
        """Returns whether the store took a file a moment ago."""
        if self._trying.acquire(blocking=not self._fails):
            try:
                if time.monotonic() - self._tried_at >= FRESH_SECONDS:
                    self._try()
            finally:
                self._trying.release()
        return not self._fails

    def _try(self) -> None:
        try:
            self._store.check()
        except StoreUnavailable as error:
            if not self._fails:
                log.warning("the result store takes no files: no job is accepted (%r)", error.__cause__)
            self._fails = True
        else:
            if self._fails:
                log.warning("the result store takes files again")
            self._fails = False
        self._tried_at = time.monotonic()


class Breaker:
    """Lets calls that read from the store fail at once after one that had no answer in time. Threads may share it.

    Meanwhile one call in PAUSE_SECONDS goes through, and an answer ends it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._open_until: float | None = None

    def call(self, read: Callable[[], T]) -> T:
        """Returns what `read` does; raises StoreUnavailable if the store does not answer, or did not a moment ago."""
        with self._lock:
            if self._open_until is not None:
                if time.monotonic() < self._open_until:
                    raise StoreUnavailable("the store did not answer a moment ago")
                self._open_until = time.monotonic() + PAUSE_SECONDS
        try:
            result = read()
        except StoreUnavailable:
            self._open_until = time.monotonic() + PAUSE_SECONDS
            raise
        except ResultExpired:  # is an answer, too
            self._open_until = None
            raise
        self._open_until = None
        return result
