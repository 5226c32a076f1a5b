"""Access to the result store: whether it takes files, and the few threads in which finished jobs are read and rendered.

So threads, memory and time are left for other requests, also while the store hangs.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from difuso.jobs.errors import ResultExpired, StoreUnavailable
from difuso.jobs.store.result_store import ResultStore

from .errors import Overloaded

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # in which the last try holds
STALE_SECONDS = 2.0  # after which nobody relies on it
PAUSE_SECONDS = 0.25  # between two reads of a store that does not answer
RENDERERS = 1  # threads that render; each holds all images of a job, and takes the GIL except to compress
MAX_WAITING = 64  # requests that may wait for a renderer
RETRY_SECONDS = 2

T = TypeVar("T")


class StoreProbe:
    """Tries the store by writing a file, before a job is accepted: at most once in FRESH_SECONDS, and one at a time.

    The others rely on the last try meanwhile, for STALE_SECONDS, or as long as the store is known to fail. So one that
    hangs takes no more than one thread then.
    """

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._trying = Lock()
        self._tried_at = -float("inf")
        self._fails = False

    def takes_files(self) -> bool:
        """Returns whether the store took a file a moment ago."""
        age = time.monotonic() - self._tried_at
        if age >= FRESH_SECONDS and self._trying.acquire(blocking=age >= STALE_SECONDS and not self._fails):
            try:
                if time.monotonic() - self._tried_at >= FRESH_SECONDS:  # no other thread has, while this one waited
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


class Renderers:
    """The threads in which images are read, as many as `readers`, and rendered; one object per process."""

    def __init__(self, readers: int) -> None:
        self._threads = CapacityLimiter(RENDERERS)
        self._readers = CapacityLimiter(readers)
        self._breaker = Breaker()

    async def read(self, read: Callable[[], T]) -> T:
        """Runs a function that only reads from the store in one of the reader threads, however many calls wait.

        Raises StoreUnavailable if the store does not answer, or has just not answered another call.
        """
        return await to_thread.run_sync(partial(self._breaker.call, read), limiter=self._readers)

    async def run(self, make: Callable[[], T]) -> T:
        """Runs a function that reads like `read` and renders; raises Overloaded if MAX_WAITING calls wait already."""
        if self._threads.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("Too many requests are waiting for their images.", retry_after=RETRY_SECONDS)
        return await to_thread.run_sync(partial(self._breaker.call, make), limiter=self._threads)
