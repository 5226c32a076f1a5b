"""Widths of levels, as our configs state them."""

import math


def multiple(width: int, channels: int) -> float:
    """Returns the entry of `UNetConfig.channel_mult` that gives this width."""
    if width % channels == 0:
        return width // channels
    mult = width / channels
    return mult if int(channels * mult) == width else math.nextafter(mult, math.inf)
