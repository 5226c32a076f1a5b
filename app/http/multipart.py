"""Reading the content of multipart/form-data (RFC 7578)."""

from collections.abc import Collection

from python_multipart.multipart import parse_options_header

from ..errors import MalformedBody, NotMultipart, UploadRefused
from .problems import MAX_NAME

MEDIA_TYPE = b"multipart/form-data"
MAX_HEAD = 8192  # bytes of a part before its content


def read_form(body: bytearray, content_type: str, names: Collection[str]) -> dict[str, bytes]:
    """Returns the parts of a body that have content; browsers send an empty part for an empty field.

    A part is identified by its name, and may come once; its file name and type are ignored.

    Raises:
        NotMultipart: if the body has another type.
        MalformedBody: if it does not keep to its type.
        UploadRefused: if a part is unknown or repeated.
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
