"""Pictures of images that have other than 1 or 3 channels, for people to look at."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_pictures(images: NDArray[Any], shown: Sequence[int] | None = None) -> NDArray[Any]:
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
