"""Running the application: uvicorn with a graceful end."""

import asyncio
import signal
import socket

import uvicorn
from fastapi import FastAPI

from .protocol import DeadlineProtocol

# After SIGTERM: connections are accepted for this time, so that a load balancer sees that /readyz fails.
LAME_DUCK_SECONDS = 1.0
GRACEFUL_SECONDS = 20
MAX_CONNECTIONS = 900  # below the usual limit of 1024 open files
BACKLOG = 2048  # connections that may wait to be accepted


def run(app: FastAPI, *, host: str, port: int, fd: int | None, draining: asyncio.Event) -> None:
    """Serves until SIGTERM or SIGINT, on a port or on a shared socket; `draining` is set when shutdown begins."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",  # rather than another one that is installed by chance
        http=DeadlineProtocol,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        # asyncio accepts as many connections in a row as its backlog. One front end would take those of all others.
        backlog=BACKLOG if fd is None else 1,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
        proxy_headers=False,
        access_log=False,
        log_config=None,  # the caller configures logging
    )
    server = DrainingServer(config, draining)
    # uvicorn handles signals while it runs, and raises them again after its end, when they must not end the process.
    # A signal that arrives before its start must count, too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(None if fd is None else [socket.socket(fileno=fd)])


class DrainingServer(uvicorn.Server):
    """A server that sets `draining` before it stops, so that readiness and all waits end first."""

    def __init__(self, config: uvicorn.Config, draining: asyncio.Event) -> None:
        super().__init__(config)
        self._draining = draining

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for shared in sockets or ():
            shared.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.set()
        await asyncio.sleep(LAME_DUCK_SECONDS)
        await super().shutdown(sockets)
