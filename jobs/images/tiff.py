"""Grey TIFF files (TIFF 6.0), in which scanners and microscopes store 16 bits: one image in strips, raw or deflated.

Pillow would read them with libtiff, for which an upload is a program of tags. Of these few tags a reader is short.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import AnimatedImage, BadImage, ImageTooComplex, UnsupportedFormat
from .sizes import check_size

MAGICS = (b"II*\0", b"MM\0*")
MAX_ENTRIES = 100  # tags of an image
MAX_NUMBERS = 10_000  # of one tag, such as one for each strip

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
SAMPLES, COUNTS, PREDICTOR, TILES, SAMPLE_FORMAT = 277, 279, 317, 322, 339
FORMATS = {1: "B", 3: "H", 4: "I"}  # of the numbers of a tag; other types are left out
DEFLATE = (8, 32_946)
ONLY_GREY = "Should be a grey TIFF of 8 or 16 bits, uncompressed or deflated, in strips; otherwise save it as PNG"

Pixels = np.ndarray[Any, Any]


def read_tiff(data: bytes) -> tuple[Image.Image, int]:
    """Decodes a TIFF; returns the image, grey of 8 or 16 bits, and its orientation, 1..8 as in EXIF.

    Raises:
        UnsupportedFormat: if it is not grey, or is compressed or cut in another way.
        AnimatedImage: if it holds several images.
        ImageTooComplex, ImageTooLarge, BadImage: as `fitting.read_image`.
    """
    order = "<" if data.startswith(b"II") else ">"
    try:
        tags = _tags(data, order)
        width, height, bits = (tags[tag][0] for tag in (WIDTH, HEIGHT, BITS))
        _check_kind(tags, bits)
        check_size(width, height)
        packed = _strips(data, tags, size=math.ceil(width * height * bits / 8))
        pixels = np.frombuffer(packed, f"{order}u{bits // 8}").reshape(height, width)
    except (struct.error, zlib.error, LookupError, ValueError) as error:
        raise BadImage from error
    pixels = pixels.astype(np.uint8 if bits == 8 else np.uint16)  # in this machine's byte order
    if tags.get(PREDICTOR, (1,))[0] == 2:  # each number is the difference to the one before
        pixels = np.cumsum(pixels, axis=1, dtype=pixels.dtype)
    if tags[PHOTOMETRIC][0] == 0:  # white is zero
        pixels = np.iinfo(pixels.dtype).max - pixels
    orientation = tags.get(ORIENTATION, (1,))[0]
    return Image.fromarray(pixels), orientation if 1 <= orientation <= 8 else 1


def _tags(data: bytes, order: str) -> dict[int, Sequence[int]]:
    """Returns the numbers of each tag of the only image (sections 2 and 8)."""
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, start)
    if entries > MAX_ENTRIES:
        raise ImageTooComplex
    tags: dict[int, Sequence[int]] = {}
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, place)
        if kind not in FORMATS:
            continue
        if count > MAX_NUMBERS:
            raise ImageTooComplex
        form = f"{order}{count}{FORMATS[kind]}"
        inline = struct.calcsize(form) <= 4
        where = place + 8 if inline else struct.unpack_from(f"{order}I", data, place + 8)[0]
        tags[tag] = struct.unpack_from(form, data, where)
    if struct.unpack_from(f"{order}I", data, start + 2 + 12 * entries)[0]:
        raise AnimatedImage
    return tags


def _check_kind(tags: dict[int, Sequence[int]], bits: int) -> None:
    compression, predictor = (tags.get(tag, (1,))[0] for tag in (COMPRESSION, PREDICTOR))
    is_grey = tags[PHOTOMETRIC][0] in (0, 1) and tags.get(SAMPLES, (1,))[0] == 1 and TILES not in tags
    is_whole = bits in (8, 16) and tags.get(SAMPLE_FORMAT, (1,))[0] == 1
    if not (is_grey and is_whole and compression in (1, *DEFLATE) and predictor in (1, 2)):
        raise UnsupportedFormat(ONLY_GREY)


def _strips(data: bytes, tags: dict[int, Sequence[int]], *, size: int) -> bytes:
    """Returns the content of all strips, `size` bytes."""
    found = bytearray()
    for offset, count in zip(tags[OFFSETS], tags[COUNTS], strict=True):
        strip = data[offset : offset + count]
        if tags.get(COMPRESSION, (1,))[0] != 1:
            strip = zlib.decompressobj().decompress(strip, size - len(found) + 1)
        found += strip
        if len(found) > size:
            raise BadImage
    if len(found) != size:
        raise BadImage
    return bytes(found)
