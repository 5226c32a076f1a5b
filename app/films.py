"""The formats of a film: its moments side by side, or one after another."""

import io
from enum import StrEnum
from typing import Self

from PIL import Image

from difuso.jobs.images.fitting import in_eight_bits
from difuso.jobs.moments import film_size

from .errors import NotAcceptable
from .http.headers import preferred

FRAME_MILLISECONDS, END_MILLISECONDS = 110, 1500
WIDE = 256  # pixels that an animation has at least on its longer side


class FilmFormat(StrEnum):
    """A media type. If an Accept header prefers several equally, the last of them here is chosen."""

    APNG = "image/apng"
    GIF = "image/gif"
    WEBP = "image/webp"

    @classmethod
    def choose(cls, accept: str) -> Self:
        """Returns the format that an Accept header prefers; raises NotAcceptable like `choose_format`."""
        best = preferred([*cls], accept.strip() or "*/*")
        if best is None:
            raise NotAcceptable(f"A film is {', '.join(cls)}: accept one of them.")
        return cls(best)


def rendered(film: bytes, png: bytes, form: FilmFormat) -> bytes:
    """Returns a film, stored as its moments side by side in WebP, in a format; an animation ends with the image, `png`.

    Its pixels and those of the moments become squares of equal size there.
    """
    if form is FilmFormat.WEBP:
        return film
    image = in_eight_bits(Image.open(io.BytesIO(png)))
    strip = Image.open(io.BytesIO(film)).convert(image.mode)
    factor = -(-WIDE // max(image.size))
    size = (image.width * factor, image.height * factor)
    high, wide = film_size(image.height, image.width)
    across = strip.height * wide // high  # `wide`, but in a cascade, which films a smaller square
    moments = [strip.crop((left, 0, left + across, strip.height)) for left in range(0, strip.width, across)]
    frames = [each.resize(size, Image.Resampling.NEAREST) for each in (*moments, image)]
    file = io.BytesIO()
    durations = [FRAME_MILLISECONDS] * len(moments) + [END_MILLISECONDS]
    kind = "GIF" if form is FilmFormat.GIF else "PNG"
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return file.getvalue()
