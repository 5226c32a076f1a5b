"""Arrays of pixels that are sent as .npy files, which can have any number of channels.

NumPy's own reader would unpickle objects, and allocate whatever a header states. So NumPy reads only the header.
"""

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from difuso.model.shape import MAX_CHANNELS

from ..errors import BadImage, ImageRefused, ImageTooLarge

MAX_PIXELS = 2048 * 2048  # of one image; decoded it takes 16 MB, and its conversion a few times that
MAX_SIDE = 8192  # pixels
MAX_BYTES = 8 * MAX_PIXELS  # of the numbers of one image: four channels of 16 bits at the most pixels

NPY_MAGIC = b"\x93NUMPY"
MAX_HEADER = 4096  # bytes before the pixels
MAX_EXTENT = 2**53  # of a shape; Python refuses to print integers of thousands of digits

# An image as it was sent: grey of 8 or 16 bits, RGB, or the grey planes of any other number of channels.
SentImage = Image.Image | tuple[Image.Image, ...]


def check_size(width: int, height: int, *, bytes_per_pixel: int = 1) -> None:
    """Raises ImageTooLarge if an image has too many pixels or too long sides to be decoded."""
    most = min(MAX_PIXELS, MAX_BYTES // bytes_per_pixel)
    if max(width, height) > MAX_SIDE or width * height > most:
        limit = f"{most} pixels and {MAX_SIDE} on each side"
        raise ImageTooLarge(f"The image should have at most {limit}, not {width}x{height}")


def read_array(content: bytes) -> SentImage:
    """Decodes one image, an array of uint8 or uint16 of shape (H, W) or (H, W, C); RGB of 16 bits becomes RGB of 8.

    Raises ImageRefused if it cannot be used; the subclass says why.
    """
    shape, fortran, dtype, start = _header(content)
    if (dtype.kind, dtype.itemsize) not in (("u", 1), ("u", 2)):
        raise ImageRefused(f"The array should be of uint8 or uint16, not {str(dtype)[:20]}")
    height, width, channels = _image_shape(shape)
    check_size(width, height, bytes_per_pixel=channels * dtype.itemsize)
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise BadImage
    pixels = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    return _as_image(pixels.reshape(height, width, channels))


def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Returns shape, whether columns come first, type, and the place of the first number."""
    file = io.BytesIO(content[:MAX_HEADER])
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # NumPy parses a header as Python
        raise BadImage from error
    if any(type(side) is not int or abs(side) > MAX_EXTENT for side in shape):  # True is a number, too
        raise BadImage
    return shape, fortran, dtype, file.tell()


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    sides = (*shape, 1) if len(shape) == 2 else shape
    if len(sides) != 3 or min(sides) < 1 or sides[2] > MAX_CHANNELS:
        found = str(shape)[:40]
        raise ImageRefused(f"Send one image, of shape (H, W) or (H, W, C), C 1 to 8, not {found}")
    height, width, channels = sides
    return height, width, channels


def _as_image(pixels: np.ndarray[Any, Any]) -> SentImage:
    pixels = pixels.astype(np.uint16 if pixels.dtype.itemsize == 2 else np.uint8, copy=False)  # this machine's order
    if pixels.shape[2] == 3:
        return Image.fromarray(pixels if pixels.dtype == np.uint8 else (pixels / 257 + 0.5).astype(np.uint8))
    planes = tuple(Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, 2, 0))
    return planes[0] if len(planes) == 1 else planes
