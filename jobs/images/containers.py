"""PNG and JPEG files, reduced to the pieces that carry pixels before the decoder reads them.

Texts, profiles, thumbnails and further frames never reach Pillow, so they cost nothing there: Pillow walks through the
pieces of a file in Python, and 8 MB of empty pieces keep it busy for ten seconds. Colour profiles and gamma are
dropped, too; samples are taken as sRGB, as in training.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Literal

from ..errors import AnimatedImage, BadImage, ImageTooComplex, UnsupportedFormat

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
MAX_CHUNKS = 10_000  # enough for encoders that write chunks of 1 kB

JPEG_MAGIC = b"\xff\xd8\xff"
EOI, SOS, DQT, DRI, APP0, APP1, APP2, APP14 = 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE
# Frame headers and tables. APP0 (JFIF) and APP14 (Adobe) name the colour space.
JPEG_PIXELS = frozenset({*range(0xC0, 0xC8), *range(0xC9, 0xD0), DQT, DRI, APP0, APP14})
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length and content
MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
MAX_SEGMENTS = 1_000
MAX_HEADER = 131_072  # bytes of tables; usual files have a few thousand
# Decoding each scan of a progressive JPEG passes over the whole image, and a scan may have 14 bytes. Encoders write
# about ten scans.
MAX_SCANS = 64

EXIF = b"Exif\0\0"
ORIENTATION = 0x0112
UPRIGHT = 1


@dataclass(frozen=True)
class Container:
    """A file without metadata."""

    data: bytes  # the content of the file
    orientation: int  # the orientation from EXIF, 1..8; 1 is upright


def strip(data: bytes) -> Container:
    """Recognises a file by its first bytes, and removes all that the decoder does not need.

    Raises UnsupportedFormat, AnimatedImage (APNG, MPO), BadImage, or ImageTooComplex if it has too many chunks,
    segments or scans, or too large tables.
    """
    if data.startswith(PNG_MAGIC):
        return _strip_png(data)
    if data.startswith(JPEG_MAGIC):
        return _strip_jpeg(data)
    raise UnsupportedFormat


def _strip_png(data: bytes) -> Container:
    """Strips a PNG, whose chunks are length, type, content and checksum (PNG, third edition, section 5.3)."""
    kept, orientation, start = [PNG_MAGIC], UPRIGHT, len(PNG_MAGIC)
    for _ in range(MAX_CHUNKS):
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4])
        content = data[start + 8 : end - 4]
        if end > len(data) or zlib.crc32(kind + content) != int.from_bytes(data[end - 4 : end]):
            raise BadImage
        if kind == b"eXIf":
            orientation = _orientation(content)
        elif kind == b"acTL" and int.from_bytes(content[:4]) != 1:
            raise AnimatedImage
        if kind in PNG_PIXELS:
            kept.append(data[start:end])
        if kind == b"IEND":
            return Container(b"".join(kept), orientation)
        start = end
    raise ImageTooComplex


def _strip_jpeg(data: bytes) -> Container:
    """Strips a JPEG, whose segments before the scans are marker, length and content (ITU-T T.81, annex B)."""
    header, orientation, end = data[:2], UPRIGHT, 2
    for _ in range(MAX_SEGMENTS):
        marker = MARKER.search(data, end)  # skips bytes between segments, as libjpeg does
        if marker is None:
            raise BadImage
        start, kind = marker.start(), marker[0][1]
        if kind == SOS:
            return Container(header + _scans(data[start:]), orientation)
        length = 0 if kind in ALONE else max(2, int.from_bytes(data[start + 2 : start + 4]))
        end = start + 2 + length
        content = data[start + 4 : end]
        if kind == APP1 and content.startswith(EXIF):
            orientation = _orientation(content[len(EXIF) :])
        elif kind == APP2 and content.startswith(b"MPF\0"):
            raise AnimatedImage
        elif kind in JPEG_PIXELS:
            header += data[start:end]
        if len(header) > MAX_HEADER:
            break
    raise ImageTooComplex


def _scans(data: bytes) -> bytes:
    """Returns all scans up to the end of the image; inside a scan, 0xFF is followed by 0 unless it begins a marker."""
    end = data.find(bytes([0xFF, EOI])) + 2
    if end < 2:
        raise BadImage
    if data.count(bytes([0xFF, SOS]), 0, end) > MAX_SCANS:
        raise ImageTooComplex
    return data[:end]


def _orientation(exif: bytes) -> int:
    """Returns the orientation from the first directory of a TIFF structure; UPRIGHT if it is absent or invalid."""
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"
    entry = int.from_bytes(exif[4:8], order) + 2
    for _ in range(int.from_bytes(exif[entry - 2 : entry], order)):
        if int.from_bytes(exif[entry : entry + 2], order) == ORIENTATION:
            value = int.from_bytes(exif[entry + 8 : entry + 10], order)
            return value if 1 <= value <= 8 else UPRIGHT
        entry += 12
        if entry > len(exif):
            break
    return UPRIGHT
