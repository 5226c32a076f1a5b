"""Rendering finished jobs: few at once, so that other requests find threads, memory and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from .errors import Overloaded

RENDERERS = 1  # each holds all pictures of a job, and takes turns with the event loop whenever it is not compressing
READERS = 4  # of manifests; fifty threads at once would keep the event loop waiting for its turn
MAX_WAITING = 64
RETRY_SECONDS = 2

T = TypeVar("T")


class Renderers:
    """The threads in which pictures are read and bodies are made of several; one per process."""

    def __init__(self) -> None:
        self._threads = CapacityLimiter(RENDERERS)
        self._readers = CapacityLimiter(READERS)

    async def read(self, read: Callable[[], T]) -> T:
        """Runs what only reads in one of a few other threads, however many wait."""
        return await to_thread.run_sync(read, limiter=self._readers)

    async def run(self, make: Callable[[], T]) -> T:
        """Runs it in a thread, in turn.

        Raises:
            Overloaded: if too many wait already.
        """
        if self._threads.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("Many pictures are being put together already.", retry_after=RETRY_SECONDS)
        return await to_thread.run_sync(make, limiter=self._threads)
