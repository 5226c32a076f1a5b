"""How noisy a picture is, for requests that do not say."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from PIL import Image

MEDIAN = 0.6745  # of |z|, z standard normal
CUT = 2.0  # standard deviations; beyond it lie edges rather than noise
# Standard deviation of a normal variable that is cut off at +-CUT, by its own: sqrt(1 - 2 c phi(c) / erf(c / sqrt 2)).
CUT_DEVIATION = math.sqrt(
    1 - 2 * CUT * math.exp(-CUT * CUT / 2) / math.sqrt(2 * math.pi) / math.erf(CUT / math.sqrt(2))
)
PASSES = 20  # it moves by less than a thousandth after ten


def estimate_sigma(png: bytes) -> float:
    """Standard deviation of white Gaussian noise in a picture, in grey levels (0..255).

    The finest diagonal Haar band (a - b - c + d) / 2 of 2 x 2 pixels has the deviation of the noise and nothing of
    smooth content (Donoho and Johnstone 1994, who take its median / 0.6745). The edges of drawings shift the median, so
    it only begins here: then what lies beyond two deviations is cut off, again and again. Blocks of which half is black
    or white are left out, because noise was clipped there.

    Within 2 % where the content is smooth. Of drawn faces 5 % too much for noise of 5 to 15, right at 25, a tenth too
    little at 50, where few pixels are left that did not clip. Means little below 1, which rounding hides. Noise that is
    not white is under-estimated: of pictures that were scaled, and of JPEGs, which round the finest band away.

    Args:
        png: grey or RGB of 8 bits, as `fitting.fit` makes them.

    Returns:
        0 for a picture that is flat nearly everywhere, or has nothing but black and white.
    """
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        width = image.width
        bands = [band.tobytes() for band in image.split()]
    counts = Counter(level for band in bands for level in _diagonal(band, width))
    sigma = _median(counts) / 2 / MEDIAN
    for _ in range(PASSES):
        near = {level: count for level, count in counts.items() if level <= 2 * CUT * sigma}
        total = sum(near.values())
        if not total:
            return 0.0
        square = sum(level * level * count for level, count in near.items()) / total
        sigma = math.sqrt(square) / 2 / CUT_DEVIATION
    return sigma


def _diagonal(band: bytes, width: int) -> Iterator[int]:
    """|a - b - c + d| of every block of which less than half is clipped."""
    rows = [band[start : start + width] for start in range(0, len(band), width)]
    for upper, lower in pairwise(rows):
        for a, b, c, d in zip(upper, upper[1:], lower, lower[1:], strict=False):
            if (a % 255 == 0) + (b % 255 == 0) + (c % 255 == 0) + (d % 255 == 0) < 2:
                yield abs(a - b - c + d)


def _median(counts: Counter[int]) -> int:
    below = 0
    for level in sorted(counts):
        below += counts[level]
        if 2 * below >= counts.total():
            return level
    return 0
