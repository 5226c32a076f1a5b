"""The image that a conditional network sees with x_t: how noise is added to it, and how it gets the size of x_t."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Adds noise to conditions: sqrt(1 - level^2) image + level noise, shape of images.

    A model that was trained with such conditions and their levels tolerates the faults of an image that another model
    drew (conditioning augmentation; Ho et al. 2022, section 4.2, in the form of Saharia et al. 2022, algorithm 1).

    Args:
        images: conditions in [-1, 1], shape (B, C, h, w).
        level: standard deviation of the noise, 0..1, shape (B,).
        noise: standard normal, shape of images.
    """
    level = level.to(images).view(-1, 1, 1, 1)
    return (1 - level * level).sqrt() * images + level * noise


def enlarge(images: Tensor, size: int) -> Tensor:
    """Enlarges images of shape (B, C, h, w) to height and width `size`, bicubically (Saharia et al. 2021, section 2.3).

    The filter is that of Pillow. Values may leave [-1, 1] near edges.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
