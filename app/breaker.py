"""While Redis is known not to answer, whoever asks is told so at once instead of waiting for it in a thread."""

from __future__ import annotations

import threading
import time
from typing import Any

import redis
from redis.exceptions import TimeoutError as RedisTimeout

PAUSE_SECONDS = 0.25


class Breaker:
    """Opens when Redis did not answer in time, and closes when it does; safe to be shared by threads.

    While it is open one call in PAUSE_SECONDS goes through, to see.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open_until: float | None = None
        self._prober: int | None = None  # the thread whose call goes through

    def check(self) -> None:
        """Returns if Redis may be asked.

        Raises:
            redis.TimeoutError: if not.
        """
        with self._lock:
            if self._open_until is None or self._prober == threading.get_ident():
                return
            if time.monotonic() < self._open_until:
                raise RedisTimeout("Redis did not answer a moment ago")
            self._prober, self._open_until = threading.get_ident(), time.monotonic() + PAUSE_SECONDS

    def open(self) -> None:
        """Notes that Redis did not answer."""
        with self._lock:
            self._prober, self._open_until = None, time.monotonic() + PAUSE_SECONDS

    def close(self) -> None:
        """Notes that it did."""
        if self._open_until is not None:
            with self._lock:
                self._prober = self._open_until = None


def guard(client: redis.Redis, breaker: Breaker) -> None:
    """Lets the client's connections ask the breaker first, and tell it how it went."""
    pool = client.connection_pool
    base: Any = pool.connection_class  # of TCP, TLS or a Unix socket, as the URL says

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
            breaker.close()
            return response

    pool.connection_class = Guarded
