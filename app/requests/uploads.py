"""Reading images from requests in bounded memory and few threads; a wrong request is refused as early as possible.

The content of a form is read here, too (multipart/form-data, RFC 7578).
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Set
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from difuso.jobs.errors import ImageRefused
from difuso.jobs.images.fitting import Sent, read_file

from ..errors import BodyTooLarge, InvalidRequest, MalformedBody, NotMultipart, Overloaded, UploadRefused
from ..formats import BINARY
from ..http.problems import MAX_NAME

MAX_BODIES = 8  # bodies of the largest size that fit into the memory for uploads
# Threads that decode. An image may take 50 MB and a second, and other requests need threads, too.
DECODERS = 2
PARSERS = 2  # threads that parse bodies, which take a few times their size meanwhile
MAX_WAITING = 64  # images that may wait for a decoder
RETRY_SECONDS = 2
BUSY = "Too many images are being read."

JSON = "application/json"
MEDIA_TYPE = b"multipart/form-data"

T = TypeVar("T")


class Uploads:
    """Reads uploads, each body of at most `max_bytes`, with bounded memory and threads; one object per process."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._decoders = CapacityLimiter(DECODERS)
        self._parsers = CapacityLimiter(PARSERS)

    async def read(
        self,
        request: Request,
        parts: Mapping[str, Callable[[Sent], T]],
        *,
        sent: Mapping[str, bytes] | None = None,
        optional: Set[str] = frozenset(),
        instead: str = "",
    ) -> dict[str, T]:
        """Reads the named parts of a request, each an image or an array, and converts them in a thread.

        Args:
            parts: the function that converts each image, such as a `partial` of `fit`, by the name of its part. Without
                parts the request should have no body.
            sent: the files of a JSON body by name, whose memory `read_whole` counts; None if the body is a form.
            optional: the names of those that may be absent.
            instead: what the request may have instead of parts, for messages; empty if nothing.

        Raises UploadRefused or ImageRefused if a part or the body is wrong, InvalidRequest if a body should be
        absent, and Overloaded if too many images are being read.
        """
        if sent is None and (not parts or (optional >= parts.keys() and not is_form(request))):
            await _expect_nothing(request, instead)
            return {}
        async with self._receive(request, parts, sent) as files:
            for name in parts:
                if name not in files and name not in optional:  # an empty part counts as missing
                    hint = f"; send {' and '.join(parts)}, or {instead}" if instead else ""
                    raise UploadRefused(f"The part is missing{hint}", part=name)
            return {name: await self._prepare(name, file, parts[name]) for name, file in files.items()}

    @asynccontextmanager
    async def _receive(
        self, request: Request, names: Collection[str], sent: Mapping[str, bytes] | None
    ) -> AsyncIterator[dict[str, bytes]]:
        """Yields the parts that have content; their memory counts as used until the context ends."""
        if sent is not None:
            for name in sent.keys() - set(names):
                wanted = f"only {', '.join(names)}" if names else "none"
                raise UploadRefused(f"The image is unknown; send {wanted}", part=name[:MAX_NAME])
            yield {name: content for name, content in sent.items() if content}
            return
        content_type = request.headers.get("content-type")
        if content_type is None:  # the request has no body
            yield {}
            return
        async with self.read_whole(request, partial(read_form, content_type=content_type, names=names)) as files:
            yield files

    @asynccontextmanager
    async def read_whole(self, request: Request, parse: Callable[[bytearray], T]) -> AsyncIterator[T]:
        """Yields what `parse` makes of the body of a request, in a thread; its memory counts until the context ends.

        Raises BodyTooLarge or Overloaded if it takes too much memory.
        """
        body = bytearray()
        with self._counting(request) as count:
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    count(len(chunk))
                    body += chunk
            yield await to_thread.run_sync(parse, body, limiter=self._parsers)

    @contextmanager
    def _counting(self, request: Request) -> Iterator[Callable[[int], None]]:
        """Yields a function that counts bytes of a body as memory in use, until the context ends."""
        if int(request.headers.get("content-length", 0)) > self._max_bytes:
            raise BodyTooLarge
        held = 0

        def count(size: int) -> None:
            nonlocal held
            held += size
            self._held += size
            if held > self._max_bytes:
                raise BodyTooLarge
            if self._held > MAX_BODIES * self._max_bytes:
                raise Overloaded(BUSY, retry_after=RETRY_SECONDS)

        try:
            yield count
        finally:
            self._held -= held

    async def _prepare(self, name: str, file: bytes, prepare: Callable[[Sent], T]) -> T:
        if self._decoders.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded(BUSY, retry_after=RETRY_SECONDS)
        try:
            return await to_thread.run_sync(lambda: prepare(read_file(file)), limiter=self._decoders)
        except ImageRefused as error:
            error.part = name
            raise


def is_form(request: Request) -> bool:
    return parse_options_header(request.headers.get("content-type"))[0] == MEDIA_TYPE


async def _expect_nothing(request: Request, instead: str) -> None:
    async for chunk in request.stream():
        if chunk:
            forms = f"{MEDIA_TYPE.decode()} or {JSON}"
            wanted = f"Send images or {instead}, not both" if instead else f"The body should be empty, {forms}"
            raise InvalidRequest("pointer", "", wanted)


def about_part(name: str) -> str:
    """Returns what a part holds, for the OpenAPI description."""
    return "noise x_T, an array of float32 as .npy" if name == "noise" else "PNG or JPEG, or an array as .npy"


def request_body(
    *required: str, json: dict[str, Any], optional: Collection[str] = (), instead: str = ""
) -> dict[str, Any]:
    """Returns the OpenAPI description of the body that `Uploads.read` reads; `json` is the schema of a JSON body."""
    schema = {
        "type": "object",
        "properties": {name: {**BINARY, "description": about_part(name)} for name in (*required, *optional)},
        "required": [*required],
        "additionalProperties": {**BINARY, "description": "an image or sequence that the model sees, by its name"},
    }
    content = {"multipart/form-data": {"schema": schema}, JSON: {"schema": json}}
    words = {"description": f"needed without {instead}"} if instead else {}
    return {"requestBody": {**words, "required": bool(required) and not instead, "content": content}}


MAX_HEAD = 8192  # bytes of a part before its content


def read_form(body: bytearray, content_type: str, names: Collection[str]) -> dict[str, bytes]:
    """Returns the parts of a body that have content; browsers send an empty part for an empty field.

    A part is identified by its name, and may come once; its file name and type are ignored.

    Raises NotMultipart if the body has another type, MalformedBody if it does not keep to its type, and UploadRefused
    if a part is unknown or repeated.
    """
    media_type, options = parse_options_header(content_type)
    if media_type != MEDIA_TYPE:
        raise NotMultipart
    if not (boundary := options.get(b"boundary")):
        raise MalformedBody
    files: dict[str, bytes] = {}
    delimiter, text = b"\r\n--" + boundary, b"\r\n" + body
    start = text.find(delimiter)
    while start >= 0:
        start += len(delimiter)
        if text.startswith(b"--", start):
            return {name: content for name, content in files.items() if content}
        end = text.find(delimiter, start)
        head_end = text.find(b"\r\n\r\n", start, min(end, start + MAX_HEAD))
        if head_end < 0:
            break
        name = _name(text[start:head_end])
        if name not in names:
            raise UploadRefused(f"The part is unknown; send only {', '.join(names)}", part=name[:MAX_NAME])
        if name in files:
            raise UploadRefused("The part should be sent once", part=name)
        files[name] = text[head_end + 4 : end]
        start = end
    raise MalformedBody


def _name(head: bytes) -> str:
    """Returns the name of a part; raises MalformedBody if its head has none."""
    for line in head.split(b"\r\n"):
        header, _, value = line.partition(b":")
        if header.lower() == b"content-disposition" and b"name" in (options := parse_options_header(value)[1]):
            return options[b"name"].decode(errors="replace")
    raise MalformedBody
