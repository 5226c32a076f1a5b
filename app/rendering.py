"""Rendering finished jobs in few threads, so that threads, memory and time are left for other requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from .errors import Overloaded

RENDERERS = 1  # threads that render; each holds all images of a job, and takes the GIL except to compress
READERS = 4  # threads that read manifests and images; fifty would keep the event loop waiting for the GIL
MAX_WAITING = 64  # requests that may wait for a renderer
RETRY_SECONDS = 2

T = TypeVar("T")


class Renderers:
    """The threads in which images are read and rendered; one object per process."""

    def __init__(self) -> None:
        self._threads = CapacityLimiter(RENDERERS)
        self._readers = CapacityLimiter(READERS)

    async def read(self, read: Callable[[], T]) -> T:
        """Runs a function that only reads in one of the reader threads, however many calls wait."""
        return await to_thread.run_sync(read, limiter=self._readers)

    async def run(self, make: Callable[[], T]) -> T:
        """Runs a function that renders in one of the renderer threads.

        Raises:
            Overloaded: if MAX_WAITING calls wait already.
        """
        if self._threads.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("Too many requests are waiting for their images.", retry_after=RETRY_SECONDS)
        return await to_thread.run_sync(make, limiter=self._threads)
