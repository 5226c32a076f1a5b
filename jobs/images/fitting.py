"""Untrusted images: they are decoded, made upright and opaque, and fitted to a model.

Every image becomes sRGB on a white ground, of 8 bits, or 16 for deep grey. It is encoded as a new PNG, which holds its
pixels and nothing else of the file; equal pixels give equal bytes. An image of other than 1 or 3 channels becomes grey
planes in one PNG (`Shape.planes`). It comes as a .npy file, of which NumPy reads only the header: its own reader would
unpickle objects, and allocate whatever a header states. Noise and sequences come as .npy files of floats.
"""

import hashlib
import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from difuso.model.shape import MAX_CHANNELS, Shape

from ..errors import BadImage, ImageRefused, ImageTooLarge
from .containers import PNG_MAGIC, Container, strip

MAX_PIXELS = 2048 * 2048  # of one image; decoded it takes 16 MB, and its conversion a few times that
MAX_SIDE = 8192  # pixels
MAX_BYTES = 2 * MAX_CHANNELS * 1024**2  # of the numbers of one image: the largest of a model, of 16 bits

NPY_MAGIC = b"\x93NUMPY"
MAX_HEADER = 4096  # bytes before the pixels
FLOATS = ("f2", "f4", "f8")
MAX_SIDES = 4  # of an array
MAX_EXTENT = 2**53  # of a shape; Python refuses to print integers of thousands of digits

# An image as it was sent: grey of 8 or 16 bits, RGB, or the grey planes of any other number of channels.
SentImage = Image.Image | tuple[Image.Image, ...]
Sent = SentImage | NDArray[np.floating]  # an image, or an array of float16, float32 or float64

GROUND = "white"  # behind transparent pixels and around an image that does not fill its place
DEEP, DEEP_WHITE = "I;16", 65535  # Pillow's mode of 16-bit grey, whose white it does not know by name

MASK_THRESHOLD = 128  # of 0..255: pixels from here on are missing

UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

How = Literal["cover", "contain"]


@dataclass(frozen=True)
class Fitted:
    """What a request sent, fitted to a model; equal contents give equal bytes."""

    file: bytes  # the fitted image as a PNG without metadata, or noise or a sequence as .npy
    # width, height: of an image before it was fitted, in pixels; of a sequence its width and its length
    width: int
    height: int

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.file).hexdigest()


def read_file(data: bytes) -> Sent:
    """Decodes a PNG or JPEG, as RGB or grey of 16 bits, or a .npy file; returns an image upright and opaque.

    Raises ImageRefused if it cannot be used; the subclass says why.
    """
    if data.startswith(NPY_MAGIC):
        return read_array(data)
    container = strip(data)
    try:
        return _decode(container)
    except ImageRefused:
        raise
    except Exception as error:  # Pillow raises many kinds of exceptions, whose texts contain memory addresses
        raise BadImage from error


def check_size(width: int, height: int, *, bytes_per_pixel: int = 1) -> None:
    """Raises ImageTooLarge if an image has too many pixels or too long sides to be decoded."""
    most = min(MAX_PIXELS, MAX_BYTES // bytes_per_pixel)
    if max(width, height) > MAX_SIDE or width * height > most:
        limit = f"{most} pixels and {MAX_SIDE} on each side"
        raise ImageTooLarge(f"The image should have at most {limit}, not {width}x{height}")


def read_array(content: bytes) -> Sent:
    """Decodes a .npy file: floats of any shape, or one image of uint8 or uint16 of shape (H, W) or (H, W, C).

    RGB of 16 bits becomes RGB of 8.

    Raises ImageRefused if it cannot be used; the subclass says why.
    """
    shape, fortran, dtype, start = _header(content)
    if dtype.str[1:] not in ("u1", "u2", *FLOATS):
        raise ImageRefused(f"The array should be of uint8, uint16, float16, float32 or float64, not {str(dtype)[:20]}")
    if dtype.kind == "u":
        height, width, channels = _image_shape(shape)
        check_size(width, height, bytes_per_pixel=channels * dtype.itemsize)
    if len(shape) > MAX_SIDES or min(shape, default=0) < 0 or len(content) - start != math.prod(shape) * dtype.itemsize:
        raise BadImage
    numbers = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    return _as_image(numbers.reshape(height, width, channels)) if dtype.kind == "u" else numbers


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
        raise ImageRefused(f"Send one image, of shape (H, W) or (H, W, C), C 1 to {MAX_CHANNELS}, not {found}")
    height, width, channels = sides
    return height, width, channels


def _as_image(pixels: np.ndarray[Any, Any]) -> SentImage:
    pixels = pixels.astype(np.uint16 if pixels.dtype.itemsize == 2 else np.uint8, copy=False)  # this machine's order
    if pixels.shape[2] == 3:
        return Image.fromarray(pixels if pixels.dtype == np.uint8 else (pixels / 257 + 0.5).astype(np.uint8))
    planes = tuple(Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, 2, 0))
    return planes[0] if len(planes) == 1 else planes


def fit(image: Sent, *, shape: Shape, how: How = "cover") -> Fitted:
    """Returns the image as a PNG of a model's shape: grey (ITU-R 601 luma; 16 bits stay 16), RGB, or planes.

    The filter is Lanczos, as in training: it keeps more detail than the others, and Pillow widens its support with the
    scale, so that nothing aliases. An image of this size keeps its pixels bit for bit.

    `cover` fills the shape and crops the image equally on both sides; `contain` shows the whole image in the middle of
    white.

    Raises ImageRefused if the image has another number of channels and cannot be converted.
    """
    image = _image(image)
    planes = [_place(plane, shape, how, Image.Resampling.LANCZOS) for plane in _planes(image, shape)]
    return _fitted(image, planes[0] if len(planes) == 1 else _stacked(planes))


def fit_mask(mask: Sent, *, shape: Shape, how: How = "cover") -> Fitted:
    """Returns the mask as a PNG of 1 bit with the height and width of a shape: white where pixels are missing.

    Missing are bright pixels (from MASK_THRESHOLD), transparent pixels, and the margin that `contain` adds. If the mask
    is larger than that, a pixel is missing if at least 1/500 of its area is, because its value is then unknown.

    Raises ImageRefused if it has neither 1 nor 3 channels.
    """
    mask = _image(mask)
    if isinstance(mask, tuple):
        raise ImageRefused(f"The image should be grey or RGB, without {len(mask)} channels")
    missing = in_eight_bits(mask).convert("L").point(lambda level: 255 if level >= MASK_THRESHOLD else 0)
    placed = _place(missing, shape, how, Image.Resampling.BOX)
    return _fitted(mask, placed.point(lambda level: 255 if level else 0, "1"))


def fit_map(image: Sent, *, shape: Shape, levels: int, expected: str) -> Fitted:
    """Returns a map as a grey PNG with the height and width of a shape; each pixel is the nearest of the image.

    Raises ImageRefused, which names the `expected` image, if it is not grey, or has a pixel from `levels` on.
    """
    image = _image(image)
    pixels = np.zeros(0) if isinstance(image, tuple) else np.asarray(image)
    if pixels.ndim == 3 and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 or pixels.max() >= levels:
        raise ImageRefused(f"The image should be {expected}")
    placed = _place(Image.fromarray(pixels.astype(np.uint8)), shape, "cover", Image.Resampling.NEAREST)
    return _fitted(image, placed)


def in_eight_bits(image: Image.Image) -> Image.Image:
    """Returns an image with 16-bit grey scaled to 8 bits, where Pillow would clip it."""
    return image.convert("I").point(lambda level: level / 257 + 0.5).convert("L") if image.mode == DEEP else image


def _image(sent: Sent) -> SentImage:
    """Returns what was sent if it is an image; raises ImageRefused for an array of floats."""
    if isinstance(sent, np.ndarray):
        raise ImageRefused(f"The array should be of uint8 or uint16, not {sent.dtype}")
    return sent


def _planes(image: SentImage, shape: Shape) -> tuple[Image.Image, ...]:
    """Returns the parts of an image that are fitted alone: the image itself, or its grey planes."""
    if shape.planes == 1 and not isinstance(image, tuple):
        if shape.channels == 1:
            return (image if image.mode == DEEP else image.convert("L"),)
        return (in_eight_bits(image).convert("RGB"),)
    if shape.planes == 1 or not isinstance(image, tuple) or len(image) != shape.planes:
        wanted = "grey or RGB" if shape.planes == 1 else f"a .npy file of shape (H, W, {shape.channels})"
        raise ImageRefused(f"The image should be {wanted}: the model's images have {shape.channels} channels")
    return image


def _stacked(planes: list[Image.Image]) -> Image.Image:
    """Returns planes of equal size one below the other."""
    return Image.fromarray(np.concatenate([np.asarray(plane) for plane in planes]))


def _decode(container: Container) -> Image.Image:
    # Without Image.open, which would also try MPO, and warn about sizes that are refused below.
    plugin = PngImageFile if container.data.startswith(PNG_MAGIC) else JpegImageFile
    with plugin(io.BytesIO(container.data)) as image:
        check_size(*image.size)
        image.load()
        opaque = image.copy() if image.mode == DEEP else _opaque(image)
    turn = UPRIGHT_BY.get(container.orientation)
    return opaque if turn is None else opaque.transpose(turn)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGB", image.size, GROUND)
    ground.paste(layer, mask=layer)
    return ground


def _place(image: Image.Image, shape: Shape, how: How, filter_: Image.Resampling) -> Image.Image:
    if image.mode == DEEP:  # in floats, which Pillow resamples as it does 8 bits
        placed = np.asarray(_place(image.convert("F"), shape, how, filter_))
        return Image.fromarray(placed.round().clip(0, DEEP_WHITE).astype(np.uint16))
    size = (shape.width, shape.height)
    if how == "cover":
        return ImageOps.fit(image, size, filter_)
    scale = min(shape.width / image.width, shape.height / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)
    ground = Image.new(image.mode, size, DEEP_WHITE if image.mode == "F" else GROUND)
    ground.paste(image.resize((width, height), filter_), ((shape.width - width) // 2, (shape.height - height) // 2))
    return ground


def _fitted(sent: SentImage, fitted: Image.Image) -> Fitted:
    original = sent[0] if isinstance(sent, tuple) else sent
    fitted.info.clear()
    file = io.BytesIO()
    fitted.save(file, "PNG")
    return Fitted(file.getvalue(), original.width, original.height)
