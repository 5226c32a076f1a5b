"""HTTP with a bounded cost of each connection, for clients that may be slow or hostile."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .problems import MALFORMED, MEDIA_TYPE, problem

log = logging.getLogger(__name__)

RECEIVE_SECONDS = 25.0
# A client that takes fewer bytes of an answer in this time is cut off; a slow phone takes ten times as many.
SEND_SECONDS = 10.0
SEND_BYTES = 131_072
MAX_UNSENT = 1 << 28  # bytes of answers that wait in this process for all clients that lag
READ_BYTES = 16_384  # bytes read from one connection before the others have their turn
WASTE = bytearray(1 << 18)  # where bytes go that nobody parses: many at once, so that those who send them are soon done
HEAD_BYTES = 16_384
# The largest number of pieces of a body; more are allowed at this average size. Usual clients send thousands of bytes.
FREE_PIECES = 256
PIECE_BYTES = 64
MAX_PIPELINED = 64
PATIENCE = "difuso.patience"  # an extension of ASGI: its `ask` gives a request more seconds than others have
MAX_PATH = 256  # bytes of the path that an answer to a malformed request repeats


class Refused(Exception):
    """A request breaks a rule that the parser does not check."""


class DeadlineProtocol(HttpToolsProtocol, asyncio.BufferedProtocol):
    """HTTP with a bounded cost of each connection, for clients that may be slow or hostile.

    - READ_BYTES are read in one turn of the event loop; then the other connections have their turn.
    - A head has at most HEAD_BYTES. All other bytes around a body, such as chunk sizes, are at most HEAD_BYTES and as
      many as the body has. A body has at most FREE_PIECES pieces, unless they are long enough.
    - A request must be complete within RECEIVE_SECONDS. Its answer must be read at SEND_BYTES in SEND_SECONDS.
    - While more than MAX_UNSENT bytes wait for clients, those that have lagged for longest are cut off.
    - After the answer the rest of its request is discarded unparsed, until RECEIVE_SECONDS are over.

    A client that is too slow is cut off by aborting: closing would wait until it has read the rest.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffer = bytearray(READ_BYTES)
        self._around = 0  # bytes of the request outside its body
        self._content = self._pieces = 0  # bytes of the body, and the number of pieces in which they came
        self._in_head = False
        self._keep_alive = False
        self._is_deaf = False
        self._deadline: asyncio.TimerHandle | None = None
        self._progress: asyncio.TimerHandle | None = None
        self._lags_since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Transport(transport, self._hear_out))  # type: ignore[arg-type]
        transport.set_write_buffer_limits(high=0)  # so that pause_writing is called as soon as the client lags
        self._watch()

    def get_buffer(self, sizehint: int) -> bytearray:
        return WASTE if self._is_deaf else self._buffer

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
            self.send_400_response(MALFORMED.detail)
            return
        if self._around > HEAD_BYTES + self._content and not self.transport.is_closing():
            self.send_400_response("The request has too many bytes outside its body.")

    def _feed(self, data: bytes) -> None:
        """Parses data, and ignores Upgrade headers: a new parser, which does not see them, gets the request again."""
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
        self._lags_since = self.loop.time()
        self._await_progress()
        self._make_room()

    def resume_writing(self) -> None:
        self._stop_progress()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        if not self._is_deaf:  # a large upload, among others, may take longer than a client that is silent may
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        latest = self._latest
        if self.pipeline or (latest is not None and latest.response_started and not latest.response_complete):
            self.transport.abort()  # another answer is being sent
        else:
            self.transport.write(self._malformed(msg))
            self.transport.close()

    def _malformed(self, detail: str) -> bytes:
        """Returns the answer to a request that never reaches the application, in the form of its own problems."""
        request_id = uuid.uuid4().hex
        path = (self.url or b"/").partition(b"?")[0][:MAX_PATH].decode("latin-1")
        found = problem(MALFORMED, detail=detail, instance=path, request_id=request_id)
        body = found.model_dump_json(exclude_none=True).encode()
        log.info("a malformed request was refused", extra={"request_id": request_id})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        return b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (b"".join(b"%b: %b\r\n" % pair for pair in headers), body)

    # The parser's callbacks. It treats a request as invalid if one of them raises.

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers, which come after a body, are ignored
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Refused("CONNECT is for proxies")
            return
        names = [name for name, _ in self.headers]
        if names.count(b"host") != 1 and (self.parser.get_http_version() == "1.1" or b"host" in names):
            raise Refused("there must be exactly one Host header")
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) + 4 * len(names) > HEAD_BYTES:
            raise Refused("the head is too long")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refused("too many pipelined requests wait for answers")
        if not self.url.startswith((b"/", b"*")):
            raise Refused("an absolute URL is for proxies")
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            raise Refused("the transfer encoding is unknown")
        super().on_headers_complete()
        # An answer before the end of the request closes the connection, and says so in its head.
        self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False
        self.scope["extensions"] = {PATIENCE: {"ask": self._be_patient}}

    def on_body(self, body: bytes) -> None:
        self._around -= len(body)
        self._content += len(body)
        self._pieces += 1
        if self._pieces > FREE_PIECES + self._content // PIECE_BYTES:
            raise Refused("the pieces of the body are too small")
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
        """The request that began last; None before the first one, contrary to uvicorn's annotation."""
        return self.cycle

    def _hear_out(self) -> bool:
        """Keeps the connection open, and returns True, if a client that was answered is still sending.

        Closing with unread bytes would reset the connection, and the client might never see its answer.
        """
        latest = self._latest
        if self._is_deaf or latest is None or not (latest.response_complete and latest.more_body):
            return False
        self._is_deaf = True  # until the client closes, or its request has taken RECEIVE_SECONDS
        with suppress(OSError):  # the client has closed the connection
            self.transport.write_eof()
        return True

    def _watch(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(RECEIVE_SECONDS, self.transport.abort)

    def _be_patient(self, seconds: float) -> None:
        if self._deadline is not None:
            self._unwatch()
            self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> None:
        others = [other for other in self.server_state.connections if isinstance(other, DeadlineProtocol)]
        lagging = sorted(
            (other for other in others if other._progress is not None), key=lambda other: other._lags_since
        )
        sizes = [other.transport.get_write_buffer_size() for other in lagging]
        excess = sum(sizes) - MAX_UNSENT
        for other, size in zip(lagging, sizes, strict=True):
            if excess <= 0:
                return
            excess -= size
            other.transport.abort()

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
    """The transport of a connection, whose closing is postponed while `hear_out` returns True."""

    def __init__(self, transport: asyncio.Transport, hear_out: Callable[[], bool]) -> None:
        self._transport = transport
        self._hear_out = hear_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if not self._hear_out():
            self._transport.close()
