"""The reference that images are compared with: features of real images, and their moments."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from platformdirs import user_cache_path

from .distances import Moments, moments, moments_of_covariance
from .errors import EvaluationError
from .features import BATCH, Extractor, FeatureArray, Features, InceptionV3, extract
from .image_sets import ImageSet

LEAST = 24  # images of either set, because the standard error of KID leaves out an eighth of them
MOST_FILES = 8  # with features, of some 50 MB each; beyond that the longest unused are deleted


@dataclass(frozen=True, eq=False)
class Reference:
    """The features of real images."""

    name: str  # name of the set
    size: tuple[int, ...]  # height and width of the images
    features: FeatureArray  # pooled features, shape (M, D), for precision, recall and KID
    # pooled, spatial: moments for the Fréchet distances
    pooled: Moments
    spatial: Moments
    file_moments: bool = False  # whether the moments are those in the file, of a larger set, instead of the images' own


def read_reference(
    images: ImageSet,
    extractor: Extractor,
    *,
    statistics: Path | None = None,
    report: Callable[[float], None] = lambda share: None,
) -> Reference:
    """Computes the features of a reference's images, or takes them from an earlier run.

    `statistics` is an .npz file that may have `mu`, `sigma`, `mu_s` and `sigma_s`, as ADM's reference files do. They
    are moments of Inception's features, so other extractors use the images. Too few images are an EvaluationError.
    """
    size = images.draw(0, 1).shape[1:3]
    features = kept(images, extractor.name, lambda: extract_of_size(images, extractor, size, report))
    known = _file_moments(statistics) if statistics and extractor.name == InceptionV3.name else None
    pooled, spatial = known or (moments(features.pooled), moments(features.spatial))
    return Reference(images.name, size, features.pooled, pooled, spatial, known is not None)


def extract_of_size(
    images: ImageSet, extractor: Extractor, size: tuple[int, ...], report: Callable[[float], None]
) -> Features:
    """Computes the features of at least LEAST images of this height and width; raises EvaluationError for others."""
    if images.count < LEAST:
        raise EvaluationError(f"{images.name} holds {images.count} images: at least {LEAST} are needed")
    own = images.draw(0, min(BATCH, images.count)).shape[1:3]  # in one batch, as `extract` asks for it again
    if own != size:
        sizes = " and the reference of ".join(f"{width}x{height}" for height, width in (own, size))
        raise EvaluationError(f"{images.name} holds images of {sizes}: bring them to one size, in the same way")
    return extract(images, extractor, report)


def _file_moments(path: Path) -> tuple[Moments, Moments] | None:
    if not zipfile.is_zipfile(path):
        return None
    with np.load(path) as file:
        if not {"mu", "sigma", "mu_s", "sigma_s"} <= set(file):
            return None
        return moments_of_covariance(file["mu"], file["sigma"]), moments_of_covariance(file["mu_s"], file["sigma_s"])


def kept(images: ImageSet, extractor: str, compute: Callable[[], Features]) -> Features:
    """Returns the features of a set of images, computed now or, as that takes minutes, kept from an earlier run.

    The user's cache folder has them by the images and the extractor's name. A damaged file is computed again.
    """
    path = user_cache_path("difuso", appauthor=False) / "features" / f"{_hash(images, extractor)}.npz"
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            found = Features(*(file[name] for name in Features._fields))
        path.touch()
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # there is none, or it is damaged
        found = compute()
        _keep(path, found)
    return found


def _hash(images: ImageSet, extractor: str) -> str:
    digest = hashlib.sha256(extractor.encode())
    for batch in images.batches(BATCH):
        digest.update(f"{batch.shape[1:]}".encode())
        digest.update(batch.tobytes())
    return digest.hexdigest()


def _keep(path: Path, features: Features) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez(file, **features._asdict())
        os.replace(file.name, path)
        files = sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)
        for old in files[:-MOST_FILES]:
            old.unlink(missing_ok=True)
    except OSError:
        pass
