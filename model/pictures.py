"""Pictures of images that have other than 1 or 3 channels, for people to look at."""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .shape import Shown


def as_pictures(images: NDArray[Any], shown: Shown | None = None) -> NDArray[Any]:
    """Returns images, uint8 of shape (N, H, W, C), as grey or RGB pictures (N, h, w, 1 or 3).

    Grey and RGB images stay as they are. Of others a picture has the three channels that `shown` names, as red, green
    and blue. Without it the channels are grey slices in a grid that is nearly square, row by row, with white lines
    between them.
    """
    count, height, width, channels = images.shape
    if channels in (1, 3):
        return images
    if shown is not None:
        return images[..., list(shown)]
    columns = min(channels, max(1, round(math.sqrt(channels * height / width))))
    rows = math.ceil(channels / columns)
    padded = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, rows * columns - channels)), constant_values=255)
    grid = padded.reshape(count, height + 1, width + 1, rows, columns).transpose(0, 3, 1, 4, 2)
    return grid.reshape(count, rows * (height + 1), columns * (width + 1), 1)[:, :-1, :-1]


def picture_of(pixels: NDArray[Any], shown: Shown | None) -> bytes:
    """Returns a PNG of 8 bits that shows an image, uint8 or uint16 of shape (H, W, C); see `as_pictures`."""
    if pixels.dtype == np.uint16:
        pixels = (pixels / 257 + 0.5).astype(np.uint8)
    (picture,) = as_pictures(pixels[None], shown)
    file = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(file, "PNG", compress_level=1)
    return file.getvalue()
