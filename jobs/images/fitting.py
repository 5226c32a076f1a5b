"""Untrusted images: they are decoded, made upright and opaque, and fitted to a model.

Every image becomes 8-bit sRGB on a white ground. It is encoded as a new PNG, which holds its pixels and nothing else of
the file; equal pixels give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ..errors import BadImage, ImageRefused, ImageTooLarge
from .containers import PNG_MAGIC, Container, strip

MAX_PIXELS = 2048 * 2048  # of one image; decoded it takes 16 MB, and its conversion a few times that
MAX_SIDE = 8192  # pixels
GROUND = "white"  # behind transparent pixels and beside an image that does not fill the square

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
class FittedImage:
    """An image fitted to a model.

    Attributes:
        png: the fitted image as a PNG without metadata.
        width, height: the size of the image before it was fitted, in pixels.
    """

    png: bytes
    width: int
    height: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.png).hexdigest()


def read_image(data: bytes) -> Image.Image:
    """Decodes a PNG or JPEG; returns it as RGB, upright and opaque.

    Raises:
        ImageRefused: if it cannot be used; the subclass tells why.
    """
    container = strip(data)
    try:
        return _decode(container)
    except ImageRefused:
        raise
    except Exception as error:  # Pillow raises many kinds of exceptions, whose texts contain memory addresses
        raise BadImage from error


def fit(image: Image.Image, *, size: int, channels: int, how: How = "cover") -> FittedImage:
    """Returns the image as a size x size PNG, grey (ITU-R 601 luma) or RGB.

    The filter is Lanczos, as in training: it keeps more detail than the others, and Pillow widens its support with the
    scale, so that nothing aliases. An image of this size keeps its pixels bit for bit.

    Args:
        size: the side of the square, in pixels.
        channels: 1 (grey) or 3 (RGB).
        how: `cover` fills the square and crops the image equally on both sides; `contain` shows the whole image in the
            middle of white.
    """
    converted = image.convert("L" if channels == 1 else "RGB")
    return _fitted(image, _place(converted, size, how, Image.Resampling.LANCZOS))


def fit_mask(mask: Image.Image, *, size: int, how: How = "cover") -> FittedImage:
    """Returns the mask as a size x size PNG of 1 bit: white where pixels of the image are missing.

    Missing are bright pixels (from MASK_THRESHOLD), transparent pixels, and the margin that `contain` adds. If the mask
    is larger than `size`, a pixel is missing if at least 1/500 of its area is, because its value is then unknown.
    """
    missing = mask.convert("L").point(lambda level: 255 if level >= MASK_THRESHOLD else 0)
    placed = _place(missing, size, how, Image.Resampling.BOX)
    return _fitted(mask, placed.point(lambda level: 255 if level else 0, "1"))


def _decode(container: Container) -> Image.Image:
    # Without Image.open, which would also try MPO, and warn about sizes that are refused below.
    plugin = PngImageFile if container.data.startswith(PNG_MAGIC) else JpegImageFile
    with plugin(io.BytesIO(container.data)) as image:
        if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
            raise ImageTooLarge(
                f"Should have at most {MAX_PIXELS} pixels and {MAX_SIDE} on each side, not {image.width}x{image.height}"
            )
        image.load()
        opaque = _opaque(_eight_bits(image, container.bits))
    if container.orientation in UPRIGHT_BY:
        return opaque.transpose(UPRIGHT_BY[container.orientation])
    return opaque


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Converts samples and the transparent colour to 8 bits; Pillow clips 16-bit grey, and ignores that colour."""
    key = image.info.get("transparency")
    if image.mode == "I;16":
        image = image.convert("I").point(lambda level: level / 257 + 0.5).convert("L")
    if image.mode == "L" and key is not None:
        image.info["transparency"] = round(key * 255 / (2**bits - 1))
    if image.mode == "RGB" and key is not None and bits == 16:
        image.info["transparency"] = tuple(level >> 8 for level in key)  # as Pillow converts 16-bit samples
    return image


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGB", image.size, GROUND)
    ground.paste(layer, mask=layer)
    return ground


def _place(image: Image.Image, size: int, how: How, filter_: Image.Resampling) -> Image.Image:
    if how == "cover":
        return ImageOps.fit(image, (size, size), filter_)
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new(image.mode, (size, size), GROUND)
    square.paste(image.resize((width, height), filter_), ((size - width) // 2, (size - height) // 2))
    return square


def _fitted(original: Image.Image, fitted: Image.Image) -> FittedImage:
    fitted.info.clear()
    file = io.BytesIO()
    fitted.save(file, "PNG")
    return FittedImage(file.getvalue(), original.width, original.height)
