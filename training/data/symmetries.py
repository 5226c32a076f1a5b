"""The eight ways in which a square lies on itself: four turns, each mirrored or not (the dihedral group of order 8)."""

from typing import Literal

import torch
from torch import Tensor

COUNT = 8
MIRRORED = 1  # the number of the symmetry that changes left and right


def shown(flip: bool | Literal["dihedral"]) -> range:
    """Returns the numbers of the symmetries in which a recipe's `data.flip` shows an image."""
    return range(COUNT) if flip == "dihedral" else range(MIRRORED + flip)


def turned(images: Tensor, symmetries: Tensor) -> Tensor:
    """Returns each image in its symmetry: number 2 q + m is mirrored if m = 1, and then turned q times by 90 degrees.

    Args:
        images: shape (B, C, H, W), of squares if any of them is turned by 90 or 270 degrees.
        symmetries: shape (B,), int64, 0 to 7; 0 does not change an image.
    """
    if not symmetries.any():
        return images
    out = images.clone(memory_format=torch.preserve_format)
    for number in set(symmetries.tolist()):
        chosen = symmetries == number
        flipped = images[chosen].flip(-1) if number % 2 else images[chosen]
        out[chosen] = flipped.rot90(number // 2, (-2, -1))
    return out
