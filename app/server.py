"""Running the application: uvicorn, with an end that cuts nobody off and a limit for clients that dawdle."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

# After SIGTERM: long enough to be seen as not ready while connections are still taken.
LAME_DUCK_SECONDS = 1.0
GRACEFUL_SECONDS = 20
RECEIVE_SECONDS = 25.0
# A client that takes less of an answer than this in this time, a tenth of what a slow phone takes, reads it for ever.
SEND_SECONDS = 10.0
SEND_BYTES = 131_072
MAX_CONNECTIONS = 900  # below the usual limit of 1024 open files


def run(app: FastAPI, *, host: str, port: int, draining: asyncio.Event) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        draining: set when the end begins.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",  # not whatever happens to be installed
        http=DeadlineProtocol,
        h11_max_incomplete_event_size=16_384,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
        proxy_headers=False,
        access_log=False,
        log_config=None,  # logging is the caller's
    )
    server = DrainingServer(config, draining)
    # For a signal before uvicorn listens to them, and for the one that it raises again once it has stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run()


class DrainingServer(uvicorn.Server):
    """Says so before it stops: readiness goes and every wait ends first."""

    def __init__(self, config: uvicorn.Config, draining: asyncio.Event) -> None:
        super().__init__(config)
        self._draining = draining

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.set()
        await asyncio.sleep(LAME_DUCK_SECONDS)
        await super().shutdown(sockets)


class DeadlineProtocol(H11Protocol):
    """Cuts off clients that dawdle: with a request, of which all has to come within RECEIVE_SECONDS, or with an answer.

    Cutting off is aborting: closing would wait for the client to read what is left.
    """

    _deadline: asyncio.TimerHandle | None = None
    _progress: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that we hear of all that a client does not take at once
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._stop_progress()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_progress()

    def resume_writing(self) -> None:
        self._stop_progress()
        super().resume_writing()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(RECEIVE_SECONDS, self.transport.abort)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _await_progress(self) -> None:
        left: int = self.transport.get_write_buffer_size()
        self._progress = self.loop.call_later(SEND_SECONDS, self._check_progress, left)

    def _check_progress(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < SEND_BYTES:
            self.transport.abort()
        else:
            self._await_progress()

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.cancel()
            self._progress = None
