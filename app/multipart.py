"""multipart/form-data (RFC 7578), kept in memory: the parts of a body as its chunks come in."""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from .errors import MalformedBody, NotMultipart, UploadRefused
from .problems import MAX_NAME

MEDIA_TYPE = b"multipart/form-data"


class FormReader:
    """Reads one body. Parts are known by their names; what they say of file names and types is not looked at.

    The parser limits a part's head to 8 lines of 4 kB; whoever feeds it limits the rest.

    Args:
        content_type: of the body.
        names: of the parts that may come, each once.

    Raises:
        NotMultipart: if the body is of another type.
        MalformedBody: if the type says no boundary, or one that cannot be.
    """

    def __init__(self, content_type: str, names: Collection[str]) -> None:
        media_type, options = parse_options_header(content_type)
        if media_type != MEDIA_TYPE:
            raise NotMultipart
        if not options.get(b"boundary"):
            raise MalformedBody
        self._parts = parts = _Parts(names)
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": parts.begin,
                    "on_header_begin": parts.begin_header,
                    "on_header_field": parts.take_header,
                    "on_header_value": parts.take_value,
                    "on_header_end": parts.end_header,
                    "on_headers_finished": parts.open,
                    "on_part_data": parts.take,
                    "on_end": parts.end,
                },
            )
        except FormParserError as error:
            raise MalformedBody from error

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes.

        Raises:
            UploadRefused: if they begin a part that is not known, or was there before.
            MalformedBody: if they cannot be read.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedBody from error

    def close(self) -> dict[str, bytes]:
        """Returns the parts that have content; browsers send empty ones for fields that were left empty.

        Raises:
            MalformedBody: if the body ended too early.
        """
        if not self._parts.complete:
            raise MalformedBody
        files = {name: file.getvalue() for name, file in self._parts.files.items()}
        return {name: content for name, content in files.items() if content}


class _Parts:
    """What the parser found.

    It does not know the parser: two that know each other would keep their megabytes until the next garbage collection.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._header = self._value = self._disposition = b""
        self._file = BytesIO()
        self.files: dict[str, BytesIO] = {}
        self.complete = False

    def begin(self) -> None:
        self._disposition = b""

    def begin_header(self) -> None:
        self._header = self._value = b""

    def take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value

    def open(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise MalformedBody
        name = options[b"name"].decode(errors="replace")
        if name not in self._names:
            raise UploadRefused("This part is not known here", part=name[:MAX_NAME])
        if name in self.files:
            raise UploadRefused("Is sent more than once", part=name)
        self._file = self.files[name] = BytesIO()

    def take(self, data: bytes, start: int, end: int) -> None:
        self._file.write(data[start:end])

    def end(self) -> None:
        self.complete = True
