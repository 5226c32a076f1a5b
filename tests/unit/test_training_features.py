"""Distances between sets of features are what their closed forms say, and the extractor sees what people see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.faces import draw_face
from training.features import EfficientNetLite0, FeatureArray, frechet_distance, kernel_distance

pytestmark = pytest.mark.usefixtures("one_thread")


def normal(seed: int, count: int, *, mean: float = 0.0, std: float = 1.0, dims: int = 4) -> FeatureArray:
    return np.random.default_rng(seed).normal(mean, std, (count, dims))


def test_frechet_distance_of_diagonal_covariances_has_a_closed_form() -> None:
    """Means differ by 3, standard deviations are 1, 2 and 5, 1: 9 + (1 - 5)^2 + (2 - 1)^2."""
    corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * np.sqrt(3 / 4)  # covariance I
    assert frechet_distance(corners * [1, 2], corners * [5, 1] + [0, 3]) == pytest.approx(26.0)


def test_frechet_distance_is_that_of_the_matrix_root() -> None:
    """With a product that has a real root: A B is similar to the symmetric sqrt(A) B sqrt(A)."""
    a, b = normal(0, 50), normal(1, 60) @ np.random.default_rng(2).normal(size=(4, 4)) + 1
    values, vectors = np.linalg.eigh(np.cov(a, rowvar=False))
    root = vectors * np.sqrt(values) @ vectors.T
    traces = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    overlap = np.sqrt(np.linalg.eigvalsh(root @ np.cov(b, rowvar=False) @ root)).sum()
    expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + traces - 2 * overlap
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@given(st.integers(2, 8))
def test_frechet_distance_of_a_set_to_itself_is_0_however_few_images(count: int) -> None:
    features = normal(count, count, dims=16)
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-9)


def test_kernel_distance_by_hand() -> None:
    """D = 1. Of {0, 1, 2} the pairs give 1, 1, 3^3; of {1, 1, 1} each 2^3; between them 1, 2^3, 3^3."""
    a, b = np.array([[0.0], [1.0], [2.0]]), np.ones((3, 1))
    assert kernel_distance(a, b, subsets=3).value == pytest.approx(29 / 3 + 8 - 2 * 12)


@pytest.mark.parametrize(("shift", "truth", "least", "most"), [(0.0, 0.0, 1.0, 1.8), (0.5, 1.328125, 0.85, 1.15)])
def test_kernel_distance_has_no_bias_and_knows_its_error(shift: float, truth: float, least: float, most: float) -> None:
    """Few images: the mean of many estimates is the truth, and their spread is the error that they report.

    Of N(m, I) and N(0, I) with a = |m|^2, the truth is 3a/D + 3(a/D)^2 + (a^3 + 6a^2 + 3a(D + 2))/D^3. Where it is 0,
    the jackknife is known to be careful: its variance would be twice the true one for many images, and is more for few.
    """
    estimates = [kernel_distance(normal(2 * i, 24, mean=shift), normal(2 * i + 1, 100)) for i in range(200)]
    values = np.array([estimate.value for estimate in estimates])
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(len(values))
    error = np.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
    assert least < error / values.std() < most


def test_the_extractor_tells_noise_from_faces() -> None:
    """And a face is nearer to its neighbour in brightness than to another face."""
    extract = EfficientNetLite0()
    face, other = draw_face("test-0", 64), draw_face("test-1", 64)
    brighter = np.minimum(face.astype(np.int64) + 4, 255).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, face.shape, dtype=np.uint8)
    features = extract(np.stack([face, brighter, other, noise]))
    assert features.shape == (4, 1280)
    to_brighter, to_other, to_noise = np.linalg.norm(features[1:] - features[0], axis=1)
    assert to_brighter < to_other < to_noise
