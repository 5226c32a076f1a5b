"""Images from strangers: decoded, made upright and opaque, and fitted to a model.

Whatever the file was, the model sees 8-bit sRGB on a white ground. The PNGs made here are new: nothing of the file but
its pixels is in them, and the same pixels give the same bytes.
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

MAX_PIXELS = 2048 * 2048  # a decoded picture then takes 16 MB, and what is made of it a few times that
MAX_SIDE = 8192
GROUND = "white"  # behind transparent pixels and beside a picture that does not fill the square

MASK_THRESHOLD = 128

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
    """An image as the model will see it.

    Attributes:
        png: the picture, without metadata.
        width, height: in pixels, before it was fitted.
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
        ImageRefused: the one of its kinds that says why not.
    """
    container = strip(data)
    try:
        return _decode(container)
    except ImageRefused:
        raise
    except Exception as error:  # Pillow raises many kinds, and their texts tell addresses
        raise BadImage from error


def fit(picture: Image.Image, *, size: int, channels: int, how: How = "cover") -> FittedImage:
    """The picture as size x size PNG, grey (ITU-R 601 luma) or RGB.

    Scaled by Lanczos, whose support Pillow widens to the scale so that nothing aliases; it keeps more detail than the
    others, and training pictures are scaled by it too. A picture of this size already keeps its pixels bit for bit.

    Args:
        channels: 1 or 3.
        how: `cover` fills the square and cuts off what is left over, equally on both sides; `contain` shows all of the
            picture in the middle of white.
    """
    image = picture.convert("L" if channels == 1 else "RGB")
    return _fitted(picture, _place(image, size, how, Image.Resampling.LANCZOS))


def fit_mask(picture: Image.Image, *, size: int, how: How = "cover") -> FittedImage:
    """The mask as size x size PNG of 1 bit: white where the picture fitted the same way is missing.

    Pixels brighter than half are missing, transparent ones too, and so is what `contain` adds. Of a larger mask a
    pixel is missing as soon as 1/500 of its area is, since a value that is partly unknown is not known.
    """
    missing = picture.convert("L").point(lambda level: 255 if level >= MASK_THRESHOLD else 0)
    placed = _place(missing, size, how, Image.Resampling.BOX)
    return _fitted(picture, placed.point(lambda level: 255 if level else 0, "1"))


def _decode(container: Container) -> Image.Image:
    # The plugins themselves: Image.open would also try MPO, and warn of sizes that are refused here anyway.
    plugin = PngImageFile if container.data.startswith(PNG_MAGIC) else JpegImageFile
    with plugin(io.BytesIO(container.data)) as image:
        if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
            raise ImageTooLarge(f"Should have at most {MAX_PIXELS} pixels, and {MAX_SIDE} on each side")
        image.load()
        opaque = _opaque(_eight_bits(image, container.bits))
    if container.orientation in UPRIGHT_BY:
        return opaque.transpose(UPRIGHT_BY[container.orientation])
    return opaque


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Samples as 8 bits. Pillow would clip 16-bit grey, and leaves a transparent colour at the bits of the file."""
    key = image.info.get("transparency")
    if image.mode == "I;16":
        image = image.convert("I").point(lambda level: level / 257 + 0.5).convert("L")
    if image.mode == "L" and key is not None:
        image.info["transparency"] = round(key * 255 / (2**bits - 1))
    if image.mode == "RGB" and key is not None and bits == 16:
        image.info["transparency"] = tuple(level >> 8 for level in key)  # Pillow's own way to 8 bits
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


def _fitted(picture: Image.Image, image: Image.Image) -> FittedImage:
    image.info.clear()
    file = io.BytesIO()
    image.save(file, "PNG")
    return FittedImage(file.getvalue(), picture.width, picture.height)
