"""Reading multipart/form-data (RFC 7578) in memory, chunk by chunk."""

from collections.abc import Collection
from io import BytesIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from ..errors import MalformedBody, NotMultipart, UploadRefused
from .problems import MAX_NAME

MEDIA_TYPE = b"multipart/form-data"


class FormReader:
    """Reads one body. A part is identified by its name; its file name and type are ignored.

    The parser limits the head of a part to 8 lines of 4 kB. The caller limits the size of the body.

    Args:
        content_type: the Content-Type header of the body.
        names: the names of the parts that are allowed, each once.

    Raises:
        NotMultipart: if the body has another type.
        MalformedBody: if the boundary is missing or invalid.
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
        """Parses the next bytes.

        Raises UploadRefused if they begin a part that is unknown or repeated, MalformedBody if they are malformed.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedBody from error

    def close(self) -> dict[str, bytes]:
        """Returns the parts that have content; raises MalformedBody if the body ended too early.

        Browsers send an empty part for an empty field.
        """
        if not self._parts.complete:
            raise MalformedBody
        files = {name: file.getvalue() for name, file in self._parts.files.items()}
        return {name: content for name, content in files.items() if content}


class _Parts:
    """The parts that the parser has found.

    There is no reference back to the parser: a cycle would keep its megabytes until the next garbage collection.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._header = self._value = self._disposition = b""
        self._file = BytesIO()
        self.files: dict[str, BytesIO] = {}
        self.complete = False

    def begin(self) -> None:
        self._disposition = b""

    def take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def open(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise MalformedBody
        name = options[b"name"].decode(errors="replace")
        if name not in self._names:
            raise UploadRefused(f"The part is unknown; send only {', '.join(self._names)}", part=name[:MAX_NAME])
        if name in self.files:
            raise UploadRefused("The part should be sent once", part=name)
        self._file = self.files[name] = BytesIO()

    def take(self, data: bytes, start: int, end: int) -> None:
        self._file.write(data[start:end])

    def end(self) -> None:
        self.complete = True
