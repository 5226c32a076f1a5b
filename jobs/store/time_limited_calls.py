"""Calls that may hang for ever, such as those to a network file system, made in threads that can be abandoned."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import BoundedSemaphore, Semaphore, Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


class TimeLimitedCalls:
    """Makes calls with a time limit.

    A system call cannot be interrupted. So a call whose time is over goes on in its thread, and may still succeed. Its
    thread does not keep the process from ending. The most calls at once bound the memory that hanging calls take. A
    thread whose call is over makes the next one.
    """

    def __init__(self, calls: int) -> None:
        self._free = BoundedSemaphore(calls)
        self._idle = Semaphore(0)  # counts the threads that wait, or are about to wait, for one of `_calls`
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def call(self, function: Callable[[], Result], seconds: float) -> Result:
        """Returns the result of the function, or raises its exception.

        Raises TimeoutError after `seconds`, also if no thread was free, and RuntimeError if the machine has none left.
        """
        deadline = time.monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise TimeoutError("too many calls are hanging")
        future: Future[Result] = Future()
        if not self._idle.acquire(blocking=False):
            try:
                Thread(target=self._run, name="hanging call", daemon=True).start()
            except Exception:  # the machine is out of threads or memory
                self._free.release()
                raise
        self._calls.put((function, future))
        return future.result(deadline - time.monotonic())

    def _run(self) -> None:
        while True:
            function, future = self._calls.get()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del function, future  # an idle thread keeps nothing of its last call
            self._idle.release()  # first, so that there are never more threads than calls
            self._free.release()
