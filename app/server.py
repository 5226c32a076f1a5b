"""Running the application: uvicorn, with an end that cuts nobody off and a limit for clients that dawdle."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

# After SIGTERM: long enough to be seen as not ready while connections are still taken.
LAME_DUCK_SECONDS = 1.0
GRACEFUL_SECONDS = 20
RECEIVE_SECONDS = 25.0
# A client that takes less of an answer than this in this time, a tenth of what a slow phone takes, reads it for ever.
SEND_SECONDS = 10.0
SEND_BYTES = 131_072
MAX_CONNECTIONS = 900  # below the usual limit of 1024 open files
READ_BYTES = 16_384  # of one connection before the others have their turn
HEAD_BYTES = 16_384
# A body may come in this many pieces, and more if they have this many bytes on average; clients send thousands in each.
FREE_PIECES = 256
PIECE_BYTES = 64
MAX_PIPELINED = 64


class Refused(Exception):
    """A request breaks a rule that the parser does not know."""


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
    # uvicorn listens to signals while it runs, and raises them again once it has stopped; by then all is done. One that
    # comes before counts as well.
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


class DeadlineProtocol(HttpToolsProtocol, asyncio.BufferedProtocol):
    """HTTP for clients that may mean no good: what a connection can cost is bounded, whatever it sends.

    - It is read READ_BYTES at a time, one turn of the event loop each, so that it takes turns with the others.
    - A head ends within HEAD_BYTES. What else surrounds the body, such as the sizes of its chunks, is no more than that
      and the body itself, and a million chunks of one byte are not read.
    - A request has to come in within RECEIVE_SECONDS, and its answer to be taken at the pace that SEND_SECONDS says.
    - What still comes of a request that was answered is thrown away as it is.

    Clients that dawdle are cut off by aborting: closing would wait for them to read what is left.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffer = bytearray(READ_BYTES)
        self._around = 0  # bytes of the request that are not its body
        self._content = self._pieces = 0  # of its body: bytes, and in how many pieces they came
        self._in_head = False
        self._keep_alive = False
        self._is_deaf = False
        self._deadline: asyncio.TimerHandle | None = None
        self._progress: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Transport(transport, self._hear_out))  # type: ignore[arg-type]
        transport.set_write_buffer_limits(high=0)  # so that we hear of all that a client does not take at once
        self._watch()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._is_deaf:
            self.data_received(bytes(memoryview(self._buffer)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if self._latest is None or self._latest.response_complete:
            self._watch()
        self._around += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._around > HEAD_BYTES + self._content and not self.transport.is_closing():
            self.send_400_response("Too much of the request is not its content.")

    def _feed(self, data: bytes) -> None:
        """Parses. A wish for another protocol is not heard, and the parser, which would not read on, not told of it."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            self.parser = httptools.HttpRequestParser(self)
            self._feed(line + b"".join(kept) + b"\r\n" + data[upgrade.args[0] :])

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

    def send_400_response(self, msg: str) -> None:
        latest = self._latest
        if self.pipeline or (latest is not None and latest.response_started and not latest.response_complete):
            self.transport.abort()  # in the middle of another answer
        else:
            super().send_400_response(msg)

    # The parser's callbacks; it makes of any exception a request that is invalid.

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after a body is called a header too, and is nothing that anybody waits for
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Refused("this is no proxy")
            return
        names = [name for name, _ in self.headers]
        if names.count(b"host") != 1 and (self.parser.get_http_version() == "1.1" or b"host" in names):
            raise Refused("which host it is for must be said once")
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) + 4 * len(names) > HEAD_BYTES:
            raise Refused("its head is too long")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refused("too many others wait for their answers")
        if not self.url.startswith((b"/", b"*")):
            raise Refused("it is meant for a proxy")
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            raise Refused("its body is coded in a way that is not known here")
        super().on_headers_complete()
        # Until all of the request is there, an answer would be the last, and says so.
        self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    def on_body(self, body: bytes) -> None:
        self._around -= len(body)
        self._content += len(body)
        self._pieces += 1
        if self._pieces > FREE_PIECES + self._content // PIECE_BYTES:
            raise Refused("its body comes in crumbs")
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        self._around = self._content = self._pieces = 0
        self._unwatch()

    @property
    def _latest(self) -> RequestResponseCycle | None:
        """The request that began last; None before the first, of which uvicorn's annotation knows nothing."""
        return self.cycle

    def _hear_out(self) -> bool:
        """Whether the connection stays open for a moment, because a client that was answered is still sending.

        Closing with bytes unread would reset the connection, and the client might never see its answer.
        """
        latest = self._latest
        if self._is_deaf or latest is None or not (latest.response_complete and latest.more_body):
            return False
        self._is_deaf = True  # until the client is done, or the time of an idle connection is over
        with suppress(OSError):  # it is gone
            self.transport.write_eof()
        return True

    def _watch(self) -> None:
        if self._deadline is None:
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


class _Transport:
    """A connection's transport, which asks before it closes.

    Args:
        hear_out: returns whether closing is put off.
    """

    def __init__(self, transport: asyncio.Transport, hear_out: Callable[[], bool]) -> None:
        self._transport = transport
        self._hear_out = hear_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if not self._hear_out():
            self._transport.close()
