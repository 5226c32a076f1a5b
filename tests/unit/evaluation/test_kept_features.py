"""Features of a reference are computed once, for the same images and the same extractor."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from difuso.evaluation.features import Features
from difuso.evaluation.image_sets import ImageSet, from_array
from difuso.evaluation.reference import MOST_FILES, kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where features are kept."""
    monkeypatch.setattr("difuso.evaluation.reference.user_cache_path", lambda name, **options: tmp_path)
    return tmp_path / "features"


def images(seed: int) -> ImageSet:
    return from_array("any", np.random.default_rng(seed).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8))


class Computing:
    """Computes features, each time others, and counts."""

    count = 0

    def __call__(self) -> Features:
        self.count += 1
        return Features(*(np.full((40, size), self.count, np.float32) for size in (3, 2, 1)))


def test_they_are_computed_once(folder: Path) -> None:
    compute = Computing()
    first, again = (kept(images(0), "Plain", compute) for _ in range(2))
    assert compute.count == 1
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
        assert other.dtype == np.float32


def test_other_images_and_other_extractors_have_their_own(folder: Path) -> None:
    compute = Computing()
    for seed, extractor in ((0, "Plain"), (1, "Plain"), (0, "Other")):
        kept(images(seed), extractor, compute)
    assert compute.count == len(list(folder.iterdir())) == 3


def test_a_damaged_file_is_computed_again(folder: Path) -> None:
    compute = Computing()
    kept(images(0), "Plain", compute)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert kept(images(0), "Plain", compute).pooled[0, 0] == 2
    assert kept(images(0), "Plain", compute).pooled[0, 0] == 2


def test_the_longest_unused_go(folder: Path) -> None:
    compute = Computing()
    kept(images(0), "Plain", compute)
    (first,) = folder.iterdir()
    for seed in range(1, MOST_FILES):
        kept(images(seed), "Plain", compute)
    for age, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, (age, age))
    kept(images(0), "Plain", compute)  # used, so another goes
    kept(images(MOST_FILES), "Plain", compute)
    assert len(list(folder.iterdir())) == MOST_FILES
    assert first.exists()
