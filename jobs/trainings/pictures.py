"""One picture of a dataset: decoded from what a stranger sent, and made no larger than training needs."""

import io

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..errors import ImageRefused
from ..images.containers import JPEG_MAGIC, PNG_MAGIC, UPRIGHT, strip
from ..images.fitting import GROUND, UPRIGHT_BY, in_eight_bits

KEPT = 128  # pixels of the shorter side that are kept at least: training halves a picture in the same way, to 64
LEAST = 16  # pixels of a side
MAX_PIXELS, MAX_JPEG = 25_000_000, 50_000_000  # decoded; a transparent one takes 420 MB, and a JPEG comes out smaller
DENSE, FREE_PIXELS = 100, 1 << 20  # pixels for each byte, and so many more: decoding takes a second for 50 million
KINDS = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}  # of files; what a file holds is told by its first bytes
ADVICE = "save it as PNG or JPEG"


class Unusable(Exception):
    """A picture cannot be used; the message is for its sender."""


def read_picture(data: bytes) -> Image.Image:
    """Returns a picture upright, opaque and as RGB, halved while its shorter side keeps KEPT pixels.

    Raises Unusable with the reason.
    """
    try:
        image, orientation = _opened(data)
        (width, height), most = image.size, MAX_JPEG if image.format == "JPEG" else MAX_PIXELS
        if width * height > most or min(width, height) < LEAST:
            raise Unusable(f"it has {width}x{height} pixels, and {LEAST} a side to {most} in all are wanted")
        if width * height > DENSE * len(data) + FREE_PIXELS:
            raise Unusable(
                f"it has {width}x{height} pixels in {len(data)} bytes, so little is to be seen: make it smaller"
            )
        if image.mode == "CMYK":
            raise Unusable("its colours are for print (CMYK): save it as RGB")
        if getattr(image, "n_frames", 1) > 1:
            raise Unusable("it is animated")
        image.draft("RGB", (2 * KEPT, 2 * KEPT))  # of a JPEG: decodes a smaller one where that is enough
        image = _opaque(image)
    except Unusable:
        raise
    except ImageRefused as error:
        raise Unusable(f"{error.title.lower()}: {error.advice}") from error
    except Exception as error:  # Pillow raises many kinds of exceptions, whose texts contain memory addresses
        raise Unusable("it is damaged, or incomplete") from error
    while min(image.size) >= 2 * KEPT:
        image = image.reduce(2)
    return image.transpose(UPRIGHT_BY[orientation]) if orientation in UPRIGHT_BY else image


def _opened(data: bytes) -> tuple[Image.Image, int]:
    """Opens a picture without Image.open, which would fail at sizes that are refused with a reason later."""
    if data.startswith((PNG_MAGIC, JPEG_MAGIC)):
        container = strip(data)
        plugin = PngImageFile if data.startswith(PNG_MAGIC) else JpegImageFile
        return plugin(io.BytesIO(container.data)), container.orientation
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile(io.BytesIO(data)), UPRIGHT
    if data[:2] == b"BM":
        return BmpImageFile(io.BytesIO(data)), UPRIGHT
    if data[4:8] == b"ftyp":
        raise Unusable("HEIC and AVIF are not read: export it as JPEG")
    raise Unusable(f"it is no picture that can be read: {ADVICE}")


def _opaque(image: Image.Image) -> Image.Image:
    image = in_eight_bits(image)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, GROUND), image).convert("RGB")
