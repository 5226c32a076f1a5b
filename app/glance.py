"""A glance at a model: the first samples of its sheet as a small WebP, for tiles that are seen before anything else."""

import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from difuso.model.shape import Shape

from .formats import SHEET_COLOUR, SHEET_GAP

COLUMNS, ROWS = 4, 2  # samples
QUALITY = 92  # of WebP: at 80 the texture of satellite images is gone
MOST_PIXELS = 2**25  # of a sheet that is decoded
WIDEST = 520  # pixels: four samples of 128
KEPT = 64  # glances; each has about 15 kB


@lru_cache(KEPT)
def glance(sheet: Path, changed: int, shape: Shape) -> bytes:
    """Returns the first 4x2 samples of a sheet as WebP, with the gaps between them and without a margin.

    It is made once for each version of the file. A sheet of another layout is cut at the same place.

    Args:
        changed: the time of the file's last change, in nanoseconds.
        shape: that of each sample.

    Raises OSError or ValueError if the file is no PNG, or too large.
    """
    with Image.open(sheet, formats=("PNG",)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"a sheet of {image.width}x{image.height} pixels")
        width, height = shape.width + SHEET_GAP, shape.height + SHEET_GAP
        start = SHEET_GAP if image.width % width == SHEET_GAP else 0  # some sheets have a margin
        part = Image.new("RGB", (COLUMNS * width - SHEET_GAP, ROWS * height - SHEET_GAP), SHEET_COLOUR)
        part.paste(image, (-start, -start))
    part.thumbnail((WIDEST, WIDEST))
    file = io.BytesIO()
    part.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()
