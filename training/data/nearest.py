"""The training images nearest to other images, which tell whether a model draws copies."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]  # of images, shape (N, D), or distances between them
IndexArray = NDArray[np.int64]

COMPARED = 20  # nearest images that the nearest one is compared with
CHANCE = 0.05  # share of held-out images that count as near


class Nearest:
    """The COMPARED nearest training images; `views` are vectors of the images in each symmetry, unchanged ones first.

    Attributes:
        indices: of the training images, nearest first, shape (N, COMPARED).
    """

    def __init__(self, views: Sequence[Vectors]) -> None:
        self.views = views
        self._squares = np.full((len(views[0]), COMPARED), np.inf, np.float32)
        self.indices = np.zeros((len(views[0]), COMPARED), np.int64)

    @property
    def distances(self) -> Vectors:
        """The distances of `indices`; infinite for those that there are not."""
        return np.sqrt(self._squares)

    def look(self, first: int, vectors: Vectors) -> None:
        """Compares with the training images from number `first` on, shape (B, D)."""
        found = reduce(np.minimum, (squared_distances(view, vectors) for view in self.views))
        numbers = np.broadcast_to(np.arange(first, first + len(vectors)), found.shape)
        squares, indices = np.hstack([self._squares, found]), np.hstack([self.indices, numbers])
        best = squares.argsort(axis=1, kind="stable")[:, :COMPARED]
        self._squares, self.indices = (np.take_along_axis(each, best, axis=1) for each in (squares, indices))


def scores(distances: Vectors) -> Vectors:
    """Computes each image's nearest distance relative to the mean of all, shape (N,); 1 if all are 0.

    A distance alone does not say what is near: a photograph of the sea is near to many (after Carlini et al. 2023,
    *Extracting Training Data from Diffusion Models*, section 5.1). The score of a copy is far below 1.
    """
    means = distances.mean(axis=1)
    return np.divide(distances[:, 0], means, out=np.ones_like(means), where=means > 0)


def threshold(held_out: Vectors) -> float:
    """Returns the score that CHANCE of the held-out images fall below."""
    return float(np.quantile(held_out, CHANCE))


def squared_distances(a: Vectors, b: Vectors) -> Vectors:
    """Computes the squared distances between all pairs, shape (N, M)."""
    squares: Vectors = a @ b.T
    squares *= -2
    squares += np.square(a).sum(axis=1)[:, None]
    squares += np.square(b).sum(axis=1)
    return np.maximum(squares, 0, out=squares)
