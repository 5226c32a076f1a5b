"""Reading and rendering finished jobs in few threads, so that threads, memory and time are left for other requests."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from ..errors import Overloaded
from ..store_probe import Breaker

RENDERERS = 1  # threads that render; each holds all images of a job, and takes the GIL except to compress
MAX_WAITING = 64  # requests that may wait for a renderer
RETRY_SECONDS = 2

T = TypeVar("T")


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
