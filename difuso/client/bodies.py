"""The bodies of answers, read within bounds of bytes and time.

Nothing is unpacked: the client asks for no compression, and decoders have no bound.
"""

import time
from collections.abc import AsyncIterator, Iterator

import httpx

from .errors import DifusoError
from .flows import Call

MAX_PROBLEM = 1 << 20  # bytes of an answer that is not a success
MAX_EVENT = 16 << 20  # bytes of a server-sent event; a preview of 1024x1024 pixels has 4 MiB
ENDS = (b"\n\n", b"\r\r", b"\n\r")  # the ends of an event: two line ends, each of \n, \r or \r\n


class Body:
    """Collects the body of the answer to a call."""

    def __init__(self, call: Call, response: httpx.Response) -> None:
        response.headers.pop("Content-Encoding", None)
        self._call = call
        self._response = response
        self._most = call.most if response.is_success else MAX_PROBLEM
        self._end = time.monotonic() + call.within
        self._content = bytearray()

    def add(self, piece: bytes) -> None:
        """Adds a piece; raises DifusoError if there are too many bytes, and a time-out if they come too slowly."""
        self._content += piece
        if len(self._content) > self._most:
            said = f"the answer to {self._call.method} {self._call.path}"
            raise DifusoError(f"{said} has more than {self._most >> 20} MiB, and was not read on: check the address")
        if time.monotonic() > self._end:
            raise httpx.ReadTimeout("the answer took too long")

    def answer(self) -> httpx.Response:
        """Returns the answer with all of its body."""
        return httpx.Response(
            self._response.status_code,
            headers=self._response.headers,
            content=bytes(self._content),
            request=self._response.request,
            extensions=self._response.extensions,
        )


class EventStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Passes on the body of an answer of server-sent events; raises DifusoError if one of them is too long."""

    def __init__(self, response: httpx.Response) -> None:
        response.headers.pop("Content-Encoding", None)
        self._response = response
        self._last = b""
        self._length = 0  # of the event that has not ended

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._response.iter_bytes():
            self._count(piece)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            self._count(piece)
            yield piece

    def close(self) -> None:
        self._response.close()

    async def aclose(self) -> None:
        await self._response.aclose()

    def _count(self, piece: bytes) -> None:
        seen = self._last + piece
        end = max(map(seen.rfind, ENDS))
        self._length = self._length + len(piece) if end < 0 else len(seen) - end - 2
        self._last = seen[-1:]
        if self._length > MAX_EVENT:
            raise DifusoError(f"an event of the job has more than {MAX_EVENT >> 20} MiB: check the address")


def events_in(response: httpx.Response) -> httpx.Response:
    """Returns an answer whose events have a bounded length and are UTF-8, whatever its head says."""
    found = httpx.Response(
        response.status_code, headers=response.headers, stream=EventStream(response), request=response.request
    )
    found.encoding = "utf-8"  # a charset may be any codec of Python, also one that unpacks
    return found
