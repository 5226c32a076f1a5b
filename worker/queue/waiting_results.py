"""Results that wait for the store: to draw their images again would cost more than to wait until it takes files."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.store.result_store import ResultStore

from ..engine.active import ActiveJob
from ..engine.failures import Cancelled
from ..engine.results import Encoded

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Unstored:
    """The result of a job, which may wait `until` a time on the monotonic clock."""

    active: ActiveJob
    encoded: Encoded
    until: float


class WaitingResults:
    """Results that could not be stored. A thread watches them as long as there are any.

    Once the store takes a file, all of them are tried again. So a result that the store refuses for a reason of its own
    holds up none of the others.

    Args:
        store: the store that they wait for.
        retry: starts to store a result again, and does not block.
        give_up: ends a job that was cancelled, or whose time to wait is over, with this error.
    """

    def __init__(
        self, store: ResultStore, retry: Callable[[Unstored], object], give_up: Callable[[ActiveJob, Exception], None]
    ) -> None:
        self._store = store
        self._retry = retry
        self._give_up = give_up
        self._lock = Lock()
        self._waiting: list[Unstored] = []
        self._is_watched = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, result: Unstored, error: StoreUnavailable | None = None) -> None:
        """Keeps a result that could not be stored because of an error, or that others are waiting before."""
        with self._lock:
            self._waiting.append(result)
            if self._is_watched:
                return
            self._is_watched = True
        log.warning("finished jobs wait for the store", extra={"error": repr(error and error.__cause__)})
        Thread(target=self._watch, name="waiting results", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(PAUSE_SECONDS)
            for result in self._take(lambda each: each.active.cancel or time.monotonic() > each.until):
                error = Cancelled() if result.active.cancel else StoreUnavailable("it took no file for too long")
                self._give_up(result.active, error)
            if self._waiting and self._takes_files():
                for result in self._take(lambda each: True):
                    self._retry(result)
            with self._lock:
                if not self._waiting:
                    self._is_watched = False
                    return

    def _take(self, wanted: Callable[[Unstored], bool]) -> list[Unstored]:
        with self._lock:
            taken = [each for each in self._waiting if wanted(each)]
            self._waiting = [each for each in self._waiting if each not in taken]
        return taken

    def _takes_files(self) -> bool:
        try:
            self._store.check()
        except StoreUnavailable:
            return False
        return True
