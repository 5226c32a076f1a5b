"""A circuit breaker for Redis and the store: after a timeout, calls fail at once instead of waiting in a thread."""

import threading
import time
from typing import Any

import redis
from redis.exceptions import TimeoutError as RedisTimeout

PAUSE_SECONDS = 0.25


class Breaker:
    """Opens when something does not answer in time, and closes when it answers again. Threads may share it.

    While it is open, one call in PAUSE_SECONDS goes through as a probe, and the others raise `error` about `what`.
    """

    def __init__(self, what: str, error: type[Exception]) -> None:
        self._what = what
        self._error = error
        self._lock = threading.Lock()
        self._open_until: float | None = None
        self._prober: int | None = None  # the thread whose call goes through

    def check(self) -> None:
        """Raises the breaker's error unless a call may go through."""
        with self._lock:
            if self._open_until is None or self._prober == threading.get_ident():
                return
            if time.monotonic() < self._open_until:
                raise self._error(f"{self._what} did not answer a moment ago")
            self._prober, self._open_until = threading.get_ident(), time.monotonic() + PAUSE_SECONDS

    def open(self) -> None:
        """Notes that there was no answer in time."""
        with self._lock:
            self._prober, self._open_until = None, time.monotonic() + PAUSE_SECONDS

    def close(self) -> None:
        """Notes that there was an answer."""
        if self._open_until is not None:
            with self._lock:
                self._prober = self._open_until = None


def guard(client: redis.Redis, breaker: Breaker) -> None:
    """Makes the connections of a client check the breaker before each command, and open or close it after."""
    pool = client.connection_pool
    base: Any = pool.connection_class  # for TCP, TLS or a Unix socket, depending on the URL

    class Guarded(base):  # type: ignore[misc]
        def connect(self) -> None:
            breaker.check()
            try:
                super().connect()
            except RedisTimeout:
                breaker.open()
                raise

        def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
            breaker.check()
            super().send_packed_command(*args, **kwargs)

        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            try:
                response = super().read_response(*args, **kwargs)
            except RedisTimeout:
                breaker.open()
                raise
            except redis.ResponseError:  # is an answer, too
                breaker.close()
                raise
            breaker.close()
            return response

    pool.connection_class = Guarded
