"""How good pictures are beside a reference: the figures of ADM's evaluator, and KID, on any extractor's features.

docs/evaluation.md tells what each figure means, and which may be compared.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.images import ImageArray

from .distances import (
    Kid,
    Moments,
    Score,
    frechet_distance,
    inception_score,
    kernel_distance,
    moments,
    moments_of_covariance,
)
from .features import Extractor, FeatureArray, Features, extract
from .image_sets import EvaluationError, Pictures
from .inception import InceptionV3
from .precision_recall import PrecisionRecall, precision_recall

NEIGHBOUR = 3  # as in ADM's evaluator
LEAST = 24  # pictures of either set: the error of KID leaves out an eighth of them


@dataclass(frozen=True, eq=False)
class Reference:
    """What pictures are compared with.

    Attributes:
        extractor: by name.
        size: height and width of its pictures.
        features: of its pictures, shape (M, D), for precision, recall and KID.
        pooled, spatial: moments for the Frechet distances.
        file_moments: these are the file's own, of a larger set, instead of the pictures'.
    """

    name: str
    extractor: str
    size: tuple[int, ...]
    features: FeatureArray
    pooled: Moments
    spatial: Moments
    file_moments: bool = False


@dataclass(frozen=True)
class Quality:
    """The figures of one set of pictures.

    Attributes:
        images, reference_images: how many were compared.
        dims, spatial_dims: of the features.
        frechet, spatial_frechet: distances of the pooled and of the spatial features.
        seconds_per_image: that drawing took; None if that is not known.
    """

    name: str
    extractor: str
    images: int
    reference: str
    reference_images: int
    file_moments: bool
    dims: int
    spatial_dims: int
    frechet: float
    spatial_frechet: float
    inception_score: Score
    neighbours: PrecisionRecall
    kid: Kid
    seconds_per_image: float | None = None


def read_reference(
    pictures: Pictures,
    extractor: Extractor,
    *,
    statistics: Path | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> Reference:
    """Looks at the pictures of a reference.

    Args:
        statistics: an .npz file that may have `mu`, `sigma`, `mu_s` and `sigma_s`, as ADM's reference files do. These
            are of Inception features, so that other extractors go by the pictures.

    Raises:
        EvaluationError: if there are too few pictures.
    """
    size = next(pictures.batches(1)).shape[1:3]
    features = _look(pictures, extractor, size, tell)
    known = _file_moments(statistics) if statistics and extractor.name == InceptionV3.name else None
    pooled, spatial = known or (moments(features.pooled), moments(features.spatial))
    return Reference(pictures.name, extractor.name, size, features.pooled, pooled, spatial, known is not None)


def _file_moments(path: Path) -> tuple[Moments, Moments] | None:
    if not zipfile.is_zipfile(path):
        return None
    with np.load(path) as file:
        if not {"mu", "sigma", "mu_s", "sigma_s"} <= set(file):
            return None
        return moments_of_covariance(file["mu"], file["sigma"]), moments_of_covariance(file["mu_s"], file["sigma_s"])


def evaluate(
    pictures: Pictures,
    reference: Reference,
    extractor: Extractor,
    *,
    seconds_per_image: Callable[[], float | None] = lambda: None,
    tell: Callable[[float], None] = lambda share: None,
) -> Quality:
    """All figures of a set of pictures.

    Args:
        pictures: from a file, a folder or a sampling function, see `evaluation.image_sets`.
        extractor: the one that looked at the reference.
        seconds_per_image: asked after they are drawn.
        tell: called with the share of the pictures that are drawn and looked at, 0..1.

    Raises:
        EvaluationError: if there are too few pictures, or they have another size than the reference's.
    """
    features = _look(pictures, extractor, reference.size, tell)
    return Quality(
        name=pictures.name,
        extractor=extractor.name,
        images=pictures.count,
        reference=reference.name,
        reference_images=len(reference.features),
        file_moments=reference.file_moments,
        dims=features.pooled.shape[1],
        spatial_dims=features.spatial.shape[1],
        frechet=frechet_distance(moments(features.pooled), reference.pooled),
        spatial_frechet=frechet_distance(moments(features.spatial), reference.spatial),
        inception_score=inception_score(features.logits),
        neighbours=precision_recall(features.pooled, reference.features, k=NEIGHBOUR),
        kid=kernel_distance(features.pooled, reference.features),
        seconds_per_image=seconds_per_image(),
    )


def _look(pictures: Pictures, extractor: Extractor, size: tuple[int, ...], tell: Callable[[float], None]) -> Features:
    if pictures.count < LEAST:
        raise EvaluationError(
            f"{pictures.name} holds {pictures.count} pictures, of which nothing can be said: at least {LEAST}"
        )

    def look(images: ImageArray) -> Features:
        if images.shape[1:3] != size:
            sizes = " and the reference of ".join(f"{width}x{height}" for height, width in (images.shape[1:3], size))
            raise EvaluationError(f"{pictures.name} holds pictures of {sizes}: bring them to one size, in the same way")
        return extractor(images)

    return extract(pictures, look, tell)
