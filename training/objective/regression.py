"""Regression: a network learns to draw in one call what a teacher draws in several from the same noise.

A deterministic sampler makes an image a function of its noise, which can be learned from pairs of both (Luhman & Luhman
2021, "Knowledge Distillation in Iterative Generative Models for Improved Sampling Speed"). Where a run has further
calls, they learn the same image from the straight way between both (Liu et al. 2022, "Flow Straight and Fast", section
2.1), on which DDIM moves.
"""

from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor

from difuso.model.noise import q_sample
from difuso.model.plans.prediction import Prediction, x0_from_output
from difuso.model.plans.schedule import NoiseSchedule

from ..recipe import Recipe
from .losses import Losses, Network

MOST_LEVELS = 4  # of the pyramid, each half as large as the last
FEATURES, SIDE = 24, 5  # the number of filters, and their height and width in pixels


class Regression:
    """The distance of the predicted x_0 from the image of a pair; at the last timestep x_t is its noise alone."""

    def __init__(self, schedule: NoiseSchedule, *, prediction: Prediction, channels: int) -> None:
        self._schedule = schedule
        both = [x0_from_output(prediction, float(abar)) for abar in schedule.alphas_cumprod]
        self._of_x, self._of_out = torch.tensor(both).double().unbind(1)
        self._filters = random_filters(channels)

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor) -> Losses:
        """The losses of a network; the arguments are those of `losses.Objective`, with the noise of each image."""
        pure = (t == self._schedule.num_train_timesteps - 1).view(-1, 1, 1, 1).to(x0.device)
        x_t = torch.where(pure, noise, q_sample(self._schedule, x0, t, noise))
        x_t = x_t.contiguous(memory_format=torch.channels_last)
        of_x, of_out = (column[t].view(-1, 1, 1, 1).to(x0) for column in (self._of_x, self._of_out))
        found = of_x * x_t + of_out * network(x_t, t)
        error = (found.detach() - x0).square().mean((1, 2, 3))
        return Losses.of_prediction(distance(found, x0, self._filters.to(x0)), error)


def random_filters(channels: int) -> Tensor:
    """Returns fixed random filters that see no flat areas, shape (FEATURES, channels, SIDE, SIDE)."""
    shape = (FEATURES, channels, SIDE, SIDE)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(5)) / (channels * SIDE * SIDE) ** 0.5
    return drawn - drawn.mean((2, 3), keepdim=True)


def distance(found: Tensor, wanted: Tensor, filters: Tensor) -> Tensor:
    """Returns how far images of shape (B, C, H, W) are from others, shape (B,).

    It is the mean absolute difference of the pixels, and on each level of a pyramid half of that of the slopes, of the
    features and of the pixels of the next level. The features are convolutions by the filters, cut off at 0. A squared
    error would make what the noise leaves open grey; these keep edges and textures, without a network that is trained.
    """
    total = _absolute(found - wanted)
    for _ in range(min(MOST_LEVELS, int(log2(min(wanted.shape[2:]))) - 1)):
        apart = found - wanted
        slopes = _absolute(apart.diff(dim=-1)) + _absolute(apart.diff(dim=-2))
        features = _absolute(_features(found, filters) - _features(wanted, filters))
        found, wanted = F.avg_pool2d(found, 2), F.avg_pool2d(wanted, 2)
        total = total + 0.5 * (slopes + features + _absolute(found - wanted))
    return total


def _features(images: Tensor, filters: Tensor) -> Tensor:
    return F.relu(F.conv2d(images, filters, padding=SIDE // 2))


def _absolute(values: Tensor) -> Tensor:
    return values.abs().mean((1, 2, 3))


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> Regression:
    """Returns the loss of a network that learns pairs."""
    return Regression(schedule, prediction=recipe.prediction, channels=recipe.channels)
