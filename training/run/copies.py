"""How near a run's samples are to its training images: by their pixels at a low resolution.

A search through 20,000 images of 64x64 pixels takes one core two seconds."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from difuso.model.images import from_levels

from ..data.batches import shown, turned
from ..data.dataset import Dataset
from ..data.images import ImageArray
from ..data.nearest import COMPARED, IndexArray, Nearest, Vectors, scores, threshold
from ..recipe import Data

SIDE = 16  # pixels: of what is compared
BLOCK = 1024  # training images compared at a time


class Found(NamedTuple):
    """The training image nearest to each sample, and how many of the samples are nearer than by chance."""

    nearest: IndexArray  # shape (N,)
    copies: float | None  # share with a lower score than 95 % of the held-out images; None without any


def find_nearest(samples: Tensor, images: Dataset, data: Data, held_out: ImageArray | None) -> Found:
    """Compares samples in [-1, 1], shape (N, C, H, W), and held-out images with each training image as it is shown."""
    made = samples.clamp(-1, 1)
    several = made if held_out is None else torch.cat([made, from_levels(torch.from_numpy(held_out.copy()))])
    views = [_small(turned(several, torch.full((len(several),), number))) for number in shown(data.flip)]
    search, trained = Nearest(views), images.trained
    for first in range(0, len(trained), BLOCK):
        block = images.images[trained[first : first + BLOCK]]
        search.look(first, _small(from_levels(torch.from_numpy(block))))
    nearest = trained[search.indices[: len(samples), 0]]
    if held_out is None:
        return Found(nearest, None)
    of_all = scores(search.distances[:, : min(COMPARED, len(trained))])
    of_samples, of_others = np.split(of_all, [len(samples)])
    return Found(nearest, float((of_samples < threshold(of_others)).mean()))


def _small(images: Tensor) -> Vectors:
    """Returns the means of the pixels of each image, at most SIDE x SIDE, shape (N, D)."""
    height, width = images.shape[2:]
    size = min(SIDE, height), min(SIDE, width)
    vectors: Vectors = F.adaptive_avg_pool2d(images, size).flatten(1).numpy()
    return vectors
