"""Calls that may hang for ever, as those to a network file system do: made in threads that may be given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import BoundedSemaphore, Thread
from typing import TypeVar

Result = TypeVar("Result")


class HangingCalls:
    """Waits for calls, but not for ever.

    A call whose time is over goes on behind the caller's back, since a system call cannot be interrupted; so it may
    still succeed. Its thread does not keep the process from ending.

    Args:
        calls: at once, with those that hang: then others find no thread, and what hangs cannot take all memory.
    """

    def __init__(self, calls: int) -> None:
        self._free = BoundedSemaphore(calls)

    def call(self, function: Callable[[], Result], seconds: float) -> Result:
        """Returns what the function returns.

        Raises:
            TimeoutError: if there was no thread for it, or no answer, within so many seconds.
        """
        deadline = time.monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise TimeoutError("too many calls hang")
        future: Future[Result] = Future()
        Thread(target=self._run, args=(function, future), name="hanging call", daemon=True).start()
        return future.result(deadline - time.monotonic())

    def _run(self, function: Callable[[], Result], future: Future[Result]) -> None:
        try:
            result = function()
        except BaseException as error:
            self._free.release()
            future.set_exception(error)
        else:
            self._free.release()
            future.set_result(result)
