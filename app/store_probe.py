"""Whether the result store takes files, which is tried before a job is accepted."""

import logging
import time
from threading import Lock

from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.store.result_store import ResultStore

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # in which the last try holds


class StoreProbe:
    """Tries the store by writing a file, for all threads together: at most once in FRESH_SECONDS, and one at a time.

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
