"""Precision, recall, density and coverage, all from distances between features.

Blocks of rows bound the memory.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .features import FeatureArray

ROWS = 1000  # rows of distances held at a time: 200 MB against 50,000 images


class PrecisionRecall(NamedTuple):
    """Two shares, 0..1."""

    precision: float  # share of the measured images that resemble an image of the reference
    recall: float  # share of the reference's images that a measured image resembles


def precision_recall(features: FeatureArray, reference: FeatureArray, *, k: int = 3) -> PrecisionRecall:
    """Counts the images that lie among those of the other set (Kynkaanniemi et al. 2019, eq. 1; ADM's evaluator).

    An image x does if, for some y of the other set, x is no further from y than the k-th nearest image of y's set. The
    shapes are (N, D) and (M, D), N and M more than k.
    """
    radii, radii_reference = _radii(features, k), _radii(reference, k)
    covered = np.zeros(len(reference), dtype=bool)
    inside = []
    for rows, squares in _squares(features, reference):
        inside.append((squares <= radii_reference).any(axis=1))
        covered |= (squares <= radii[rows, None]).any(axis=0)
    return PrecisionRecall(float(np.concatenate(inside).mean()), float(covered.mean()))


class DensityCoverage(NamedTuple):
    """Two figures that one odd image does not move (Naeem et al. 2020)."""

    # mean number of real neighbourhoods that a measured image lies in, over k: 1 for images like the reference's, more
    # where they crowd together in its middle
    density: float
    coverage: float  # share of the reference's neighbourhoods that hold a measured image, 0..1


def density_coverage(features: FeatureArray, reference: FeatureArray, *, k: int = 5) -> DensityCoverage:
    """Counts the neighbourhoods of the reference's images that measured images lie in (Naeem et al. 2020, eq. 7 and 8).

    A neighbourhood reaches as far as the k-th nearest image of the reference. Only the reference has neighbourhoods,
    because those of drawn images grow large around the worst ones. The shapes are (N, D) and (M, D), M more than k.
    """
    radii = _radii(reference, k)
    inside, covered = 0, np.zeros(len(reference), dtype=bool)
    for _, squares in _squares(features, reference):
        within = squares <= radii
        inside += int(within.sum())
        covered |= within.any(axis=0)
    return DensityCoverage(inside / (k * len(features)), float(covered.mean()))


def _radii(features: FeatureArray, k: int) -> FeatureArray:
    """Computes the squared distance of each image from the k-th nearest of its own set, shape (N,)."""
    radii = np.empty(len(features), features.dtype)
    for rows, squares in _squares(features, features):
        # The image itself is the nearest and counts as number 0, as in ADM's evaluator.
        radii[rows] = np.partition(squares, k, axis=1)[:, k]
    return radii


def _squares(a: FeatureArray, b: FeatureArray) -> Iterator[tuple[slice, FeatureArray]]:
    """Yields the squared distances between all pairs, in blocks of rows of `a`, each of shape (at most ROWS, M)."""
    norms_a, norms_b = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    for first in range(0, len(a), ROWS):
        rows = slice(first, first + ROWS)
        squares = a[rows] @ b.T
        squares *= -2
        squares += norms_a[rows, None]
        squares += norms_b
        yield rows, np.maximum(squares, 0, out=squares)
