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
RECEIVE_SECONDS = 30.0
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
    # uvicorn raises the signal again once it has stopped; by then all that it asked for is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    DrainingServer(config, draining).run()


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
    """Closes connections on which a request has not come in completely after RECEIVE_SECONDS."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(RECEIVE_SECONDS, self.transport.close)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
