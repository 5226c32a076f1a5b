"""The condition of a trajectory: the image that its network sees with x_t."""

from __future__ import annotations

import torch
from torch import Tensor

from model.condition_inputs import augment, enlarge
from model.transfers import upload

from .trajectory import Condition


def make_condition(image: Tensor, level: float, noise: Tensor, like: Tensor) -> Condition:
    """Makes the condition of a network from an image, in the size and on the device of `like`, shape (C, H, W).

    Args:
        image: shape (c, h, w), in [-1, 1].
        level: the standard deviation of the noise that is added, 0..1.
        noise: standard normal, shape of image.
    """
    noisy = augment(image[None], torch.tensor([level]), noise[None])
    return Condition(upload(enlarge(noisy, (like.shape[-2], like.shape[-1]))[0], like.device), level)
