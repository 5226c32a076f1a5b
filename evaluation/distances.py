"""Distances between two sets of features, precision, recall, density and coverage, and the Inception score of one.

docs/evaluation.md explains what each figure means and which may be compared.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from difuso.training.data.images import ImageArray
from difuso.training.data.nearest import squared_distances

from .features import EfficientNetLite0, FeatureArray, extract
from .image_sets import from_array

BLOCK = 1000  # rows of distances held at a time: 200 MB against 50,000 images
ROWS = 4096  # rows of features that are cast to float64 at a time
POINTS = 8  # distances that a line is laid through
LEAST_SHARE = 0.3  # of the images in the smallest part
REAL = 1000  # images that drawn ones are compared with in training
SPLIT = 5000  # images in one part of an Inception score, as in ADM's evaluator


class Moments(NamedTuple):
    """Mean and covariance of features."""

    mean: FeatureArray  # float64, shape (D,)
    # a root of the covariance, which is root^T root; float64, shape (R, D). With fewer images than features R is the
    # number of images, so that nothing is lost where the covariance is singular.
    root: FeatureArray


def moments(features: FeatureArray) -> Moments:
    """Computes the moments of features, shape (N, D), N at least 2."""
    count, dims = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    if count <= dims:
        return Moments(mean, (features - mean) / np.sqrt(count - 1))
    covariance = np.zeros((dims, dims))
    for first in range(0, count, ROWS):
        centred = features[first : first + ROWS] - mean
        covariance += centred.T @ centred
    return moments_of_covariance(mean, covariance / (count - 1))


def moments_of_covariance(mean: FeatureArray, covariance: FeatureArray) -> Moments:
    """Makes moments from a mean and a covariance, such as those in a file of statistics; shapes (D,) and (D, D)."""
    values, vectors = np.linalg.eigh(covariance)
    return Moments(mean.astype(np.float64), np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Computes |mean_a - mean_b|^2 + tr(A + B - 2 sqrt(AB)) with the covariances A and B (Heusel et al. 2017, eq. 6).

    With A = X^T X and B = Y^T Y, tr sqrt(AB) is the sum of the singular values of X Y^T. So the root of AB, which is
    not symmetric and which other implementations must regularise, is not needed. The formula is exact with fewer images
    than features. The distance is then still biased: compare only distances of equally many images.
    """
    distance = np.square(a.mean - b.mean).sum() + np.square(a.root).sum() + np.square(b.root).sum()
    return float(distance - 2 * np.linalg.norm(a.root @ b.root.T, ord="nuc"))


def frechet_without_bias(a: FeatureArray, b: FeatureArray | Moments) -> float:
    """Extrapolates the Fréchet distance to infinitely many images (Chong & Forsyth 2020, section 3).

    With n images of either set the distance is too large by nearly a multiple of 1/n. So a line is laid through the
    distances of growing parts of the sets, and read at 1/n = 0. The value may be a little below 0.

    Both are in random order or with the classes in turn, shapes (N, D) and (M, D). The publication's reference has
    50,000 images and stays whole, like moments here. A smaller one would keep its bias, so it grows with `a`.
    """

    def part(rows: FeatureArray | Moments, share: float) -> Moments:
        return rows if isinstance(rows, Moments) else moments(rows[: round(share * len(rows))])

    shares = np.linspace(LEAST_SHARE, 1, POINTS)
    distances = [frechet_distance(part(a, share), part(b, share)) for share in shares]
    _, value = np.polyfit(1 / shares, distances, 1)
    return float(value)


class Estimate(NamedTuple):
    """A value and its spread: a standard error or a standard deviation."""

    value: float
    spread: float


def kernel_distance(a: FeatureArray, b: FeatureArray, *, subsets: int = 8) -> Estimate:
    """Estimates the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, sec. 4).

    The discrepancy is 0 if both sets have the same distribution. The estimate is unbiased for any number of images, so
    it may be negative. The mean over many small subsets, which others use, has the same expectation and a larger
    spread. The standard error is a jackknife estimate: both sets are cut into subsets, and each is left out in turn. It
    is too large by half if both sets have the same distribution.

    Both have shapes (N, D) and (M, D) and are in random order or with the classes in turn: neighbours are cut off
    together. At least two images of either set must remain when one subset is left out.
    """
    parts_a, parts_b = np.array_split(a, subsets), np.array_split(b, subsets)
    aa, bb, ab = _sums(parts_a, parts_a), _sums(parts_b, parts_b), _sums(parts_a, parts_b)
    counts_a, counts_b = (np.array([len(part) for part in parts]) for parts in (parts_a, parts_b))
    chosen = [np.arange(subsets), *(np.delete(np.arange(subsets), part) for part in range(subsets))]
    value, *left_out = (
        _mean_within(aa[np.ix_(i, i)], counts_a[i])
        + _mean_within(bb[np.ix_(i, i)], counts_b[i])
        - 2 * ab[np.ix_(i, i)].sum() / (counts_a[i].sum() * counts_b[i].sum())
        for i in chosen
    )
    return Estimate(float(value), float(np.sqrt((subsets - 1) * np.var(left_out))))


def _sums(a: list[FeatureArray], b: list[FeatureArray]) -> FeatureArray:
    """Sums the kernel over pairs of images of any two parts, never of an image and itself; shape (parts, parts)."""
    sums = np.empty((len(a), len(b)))
    for p, x in enumerate(a):
        for q, y in enumerate(b):
            if a is b and q < p:
                sums[p, q] = sums[q, p]
            else:
                sums[p, q] = sum(_kernel(x[i : i + ROWS], y).sum() for i in range(0, len(x), ROWS))
                if x is y:
                    sums[p, q] -= ((np.square(x, dtype=np.float64).sum(axis=1) / x.shape[1] + 1) ** 3).sum()
    return sums


def _kernel(x: FeatureArray, y: FeatureArray) -> FeatureArray:
    kernel = x.astype(np.float64) @ y.T.astype(np.float64)
    kernel /= x.shape[1]
    kernel += 1
    return kernel * kernel * kernel


def _mean_within(sums: FeatureArray, counts: FeatureArray) -> float:
    count = int(counts.sum())
    return float(sums.sum()) / (count * (count - 1))


def inception_score(logits: FeatureArray, *, split: int = SPLIT) -> Estimate:
    """Computes exp of the mean KL divergence of p(class given image) from p(class) (Salimans et al. 2016).

    The score lies between 1 and the number of classes. Returns its mean and standard deviation over the splits.

    The logits, shape (N, classes), are in random order; ADM's evaluator takes those of Inception without their bias.
    """
    scores = []
    for first in range(0, len(logits), split):
        part = logits[first : first + split].astype(np.float64)
        log_p = part - part.max(axis=1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        scores.append(np.exp((p * (log_p - np.log(p.mean(axis=0)))).sum(axis=1).mean()))
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


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
    """Yields the squared distances between all pairs, in blocks of rows of `a`, each of shape (at most BLOCK, M)."""
    for first in range(0, len(a), BLOCK):
        rows = slice(first, first + BLOCK)
        yield rows, squared_distances(a[rows], b)


def kid_from(real: ImageArray, *, device: torch.device | str = "cpu") -> Callable[[ImageArray], float]:
    """Returns a function from drawn images to KID-EfficientNet-Lite0-TF x 1000, against a thousand of `real`."""
    extractor = EfficientNetLite0(device)
    chosen = np.sort(np.random.default_rng(0).permutation(len(real))[:REAL])
    reference = extract(from_array("real images", real[chosen]), extractor).pooled

    def distance(drawn: ImageArray) -> float:
        return 1000 * kernel_distance(extract(from_array("drawn images", drawn), extractor).pooled, reference).value

    return distance
