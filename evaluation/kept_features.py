"""Features of references, kept between runs, because those of some thousand images take minutes."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from platformdirs import user_cache_path

from .features import BATCH, Features
from .image_sets import ImageSet

MOST_FILES = 8  # of some 50 MB each; beyond that the longest unused are deleted


def kept(images: ImageSet, extractor: str, compute: Callable[[], Features]) -> Features:
    """Returns the features of a set of images, computed now or in an earlier run.

    They are identified by the images themselves and the extractor's name, and lie in the user's cache folder. If the
    folder cannot be written, or a file is damaged, the features are computed again.

    Args:
        images: the set, which is read once more for its hash.
        extractor: the name of the extractor.
        compute: computes them.
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
