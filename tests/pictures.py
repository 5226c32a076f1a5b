"""PNGs and JPEGs written by hand, so that tests can break each piece of them; all deterministic."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each PNG colour type
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = CHANNELS


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int, *, bits: int = 8, colour: int = RGB) -> bytes:
    return PNG_MAGIC + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def png(rows: list[list[Any]], *, bits: int = 8, colour: int = RGB, extra: bytes = b"", after: bytes = b"") -> bytes:
    """Returns a PNG of these samples; `extra` goes before the pixels, `after` behind them."""
    lines = b"".join(b"\0" + _packed(row, bits) for row in rows)
    start = header(len(rows[0]), len(rows), bits=bits, colour=colour)
    return start + extra + chunk(b"IDAT", zlib.compress(lines)) + after + chunk(b"IEND", b"")


def black_png(width: int, height: int, *, bits: int = 8, colour: int = RGB, extra: bytes = b"") -> bytes:
    """Returns a black PNG of any size, made in little memory."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + (width * CHANNELS[colour] * bits + 7) // 8)
    pixels = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    start = header(width, height, bits=bits, colour=colour)
    return start + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


def with_segments(jpeg: bytes, segments: bytes) -> bytes:
    """Returns the JPEG with more segments behind its first two bytes."""
    return jpeg[:2] + segments + jpeg[2:]


def with_scans(jpeg: bytes, count: int) -> bytes:
    """Returns a progressive JPEG with its last scan repeated until there are `count`."""
    last = jpeg[jpeg.rfind(b"\xff\xda") : -2]
    return jpeg[:-2] + last * (count - jpeg.count(b"\xff\xda")) + jpeg[-2:]


def exif(orientation: int, *, order: str = "<") -> bytes:
    """Returns a TIFF structure with the orientation of the image, and another entry before it."""
    entries = struct.pack(order + "HHII", 0x0100, 4, 1, 99)
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


def multipart(*parts: tuple[str, bytes], boundary: str = "b", filename: str | None = "x.png") -> bytes:
    """Returns a multipart/form-data body of files."""
    body = b""
    for name, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def _packed(row: list[Any], bits: int) -> bytes:
    samples = [sample for pixel in row for sample in (pixel if isinstance(pixel, tuple) else (pixel,))]
    if bits == 16:
        return struct.pack(f">{len(samples)}H", *samples)
    number = 0
    for sample in samples:
        number = number << bits | sample
    padding = -len(samples) * bits % 8
    return (number << padding).to_bytes((len(samples) * bits + padding) // 8, "big")
