"""Distances, scores, precision and recall have their closed forms and agree with other implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from difuso.evaluation.distances import (
    density_coverage,
    frechet_distance,
    frechet_without_bias,
    inception_score,
    kernel_distance,
    kid_from,
    moments,
    moments_of_covariance,
    precision_recall,
)
from difuso.evaluation.features import FeatureArray
from difuso.training.data.faces import draw_faces

pytestmark = pytest.mark.usefixtures("one_thread")


def normal(seed: int, count: int, *, mean: float = 0.0, std: float = 1.0, dims: int = 4) -> FeatureArray:
    return np.random.default_rng(seed).normal(mean, std, (count, dims))


def between(a: FeatureArray, b: FeatureArray) -> float:
    return frechet_distance(moments(a), moments(b))


def overlap_by_matrix_root(a: FeatureArray, b: FeatureArray) -> tuple[float, bool]:
    """tr sqrt(AB) as ADM's evaluator and its ancestor find it, and whether they must push A and B off the singular."""
    root = linalg.sqrtm(a @ b)
    singular = not np.isfinite(root).all()
    if singular:
        offset = 1e-6 * np.eye(len(a))
        root = linalg.sqrtm((a + offset) @ (b + offset))
    assert np.abs(np.diagonal(root).imag).max() < 1e-3
    return float(np.trace(root).real), singular


def by_matrix_root(a: FeatureArray, b: FeatureArray) -> float:
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    traces = sum(np.trace(covariance) for covariance in covariances)
    overlap, _ = overlap_by_matrix_root(*covariances)
    return float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + traces - 2 * overlap)


def test_frechet_distance_of_given_moments_has_a_closed_form() -> None:
    """Covariances that share their axes, turned: |Delta|^2 + sum (s - s')^2."""
    turn, _ = np.linalg.qr(normal(0, 6, dims=6))
    stds, others = np.arange(1.0, 7.0), np.array([2.0, 2, 0, 1, 9, 6])  # one axis without any spread
    a = moments_of_covariance(np.zeros(6), turn * stds**2 @ turn.T)
    b = moments_of_covariance(np.full(6, 2.0), turn * others**2 @ turn.T)
    assert frechet_distance(a, b) == pytest.approx(6 * 4 + np.square(stds - others).sum(), abs=1e-5)


@pytest.mark.parametrize("count", [10, 16, 17, 5000])
def test_moments_are_mean_and_covariance_for_fewer_and_for_more_images_than_features(count: int) -> None:
    features = normal(count, count, mean=100.0, dims=16).astype(np.float32)  # more than one block of rows
    mean, root = moments(features)
    assert mean == pytest.approx(features.mean(axis=0, dtype=np.float64))
    assert root.T @ root == pytest.approx(np.cov(features, rowvar=False), abs=1e-9)


def test_frechet_distance_is_that_of_the_matrix_root() -> None:
    a, b = normal(0, 50), normal(1, 60) @ normal(2, 4) + 1
    assert between(a, b) == pytest.approx(by_matrix_root(a, b), rel=1e-9)


@given(st.integers(2, 8))
def test_frechet_distance_of_a_set_to_itself_is_0_however_few_images(count: int) -> None:
    features = normal(count, count, dims=16)
    assert between(features, features) == pytest.approx(0.0, abs=1e-9)


def test_kernel_distance_and_its_jackknife_are_those_of_whole_matrices() -> None:
    """What is added up in blocks is what a matrix of all pairs would give, for sets of any size."""
    a, b = normal(0, 21, dims=3), normal(1, 50, dims=3) + 0.3

    def whole(a: FeatureArray, b: FeatureArray) -> float:
        within = [(np.triu((x @ x.T / 3 + 1) ** 3, 1).sum() * 2 / (len(x) * (len(x) - 1))) for x in (a, b)]
        return float(sum(within) - 2 * ((a @ b.T / 3 + 1) ** 3).mean())

    parts = zip(np.array_split(np.arange(21), 8), np.array_split(np.arange(50), 8), strict=True)
    left_out = [whole(np.delete(a, i, axis=0), np.delete(b, j, axis=0)) for i, j in parts]
    kid = kernel_distance(a, b)
    assert kid.value == pytest.approx(whole(a, b))
    assert kid.spread == pytest.approx(np.sqrt(7 * np.var(left_out)))


@pytest.mark.parametrize(("shift", "truth", "least", "most"), [(0.0, 0.0, 1.0, 1.8), (0.5, 1.328125, 0.85, 1.15)])
def test_kernel_distance_has_no_bias_and_knows_its_error(shift: float, truth: float, least: float, most: float) -> None:
    """Few images: the mean of many estimates is the truth, and their spread is the error that they report.

    Of N(m, I) and N(0, I) with a = |m|^2, the truth is 3a/D + 3(a/D)^2 + (a^3 + 6a^2 + 3a(D + 2))/D^3. Where it is 0,
    the jackknife is known to be careful: its variance would be twice the true one for many images, and is more for few.
    """
    estimates = [kernel_distance(normal(2 * i, 24, mean=shift), normal(2 * i + 1, 100)) for i in range(200)]
    values = np.array([estimate.value for estimate in estimates])
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(len(values))
    error = np.sqrt(np.mean([estimate.spread**2 for estimate in estimates]))
    assert least < error / values.std() < most


def test_the_inception_score_has_a_closed_form_and_is_the_mean_over_the_splits() -> None:
    """Two classes, p = (3/4, 1/4) and mirrored: exp(KL) from (1/2, 1/2) is 2 (3/4)^(3/4) (1/4)^(1/4)."""
    ahead = np.log([3.0, 1.0])
    both = np.array([ahead, ahead[::-1]])
    score = 2 * (3 / 4) ** (3 / 4) * (1 / 4) ** (1 / 4)
    assert inception_score(both + 5).value == pytest.approx(score)  # logits are known up to a constant
    four = np.concatenate([both, np.tile(ahead, (3, 1))])  # the second split is of one kind, the last has one image
    assert inception_score(four, split=2) == pytest.approx(((score + 2) / 3, (score - 1) * np.sqrt(2) / 3))


# The same features, by the code of torch-fidelity: another author's reading of the same publications.


@pytest.fixture(scope="module")
def fidelity() -> Any:
    return pytest.importorskip("torch_fidelity", reason="torch-fidelity comes with the extra evaluate")


A = normal(10, 400, dims=64).astype(np.float32)
B = (normal(11, 600, dims=64) @ normal(12, 64, dims=64) / 8 + 0.1).astype(np.float32)


def test_fid_is_torch_fidelity_s(fidelity: Any) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(torch.from_numpy(features.astype(np.float64))) for features in (A, B)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)[fidelity.KEY_METRIC_FID]
    assert between(A, B) == pytest.approx(theirs, rel=1e-6)


def test_kid_is_torch_fidelity_s(fidelity: Any) -> None:
    """Of whole sets of one size, theirs is this estimate; of many subsets, it is the same but for its spread."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    def theirs(a: FeatureArray, b: FeatureArray, **settings: int) -> dict[str, float]:
        features = (torch.from_numpy(x.astype(np.float64)) for x in (a, b))
        found: dict[str, float] = kid_features_to_metric(*features, verbose=False, **settings)
        return found

    whole = theirs(A, B[:400], kid_subsets=1, kid_subset_size=400)[fidelity.KEY_METRIC_KID_MEAN]
    assert kernel_distance(A, B[:400]).value == pytest.approx(whole, rel=1e-9)
    subsets = theirs(A, B, kid_subsets=60, kid_subset_size=60)
    error = subsets[fidelity.KEY_METRIC_KID_STD] / np.sqrt(60)
    ours = kernel_distance(A, B)
    assert abs(ours.value - subsets[fidelity.KEY_METRIC_KID_MEAN]) < 4 * np.hypot(error, ours.spread)


def test_the_inception_score_is_torch_fidelity_s(fidelity: Any) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    theirs = isc_features_to_metric(torch.from_numpy(3 * A), splits=4, shuffle=False)
    ours = inception_score(3 * A, split=100)
    assert ours.value == pytest.approx(theirs[fidelity.KEY_METRIC_ISC_MEAN], rel=1e-9)
    assert ours.spread == pytest.approx(theirs[fidelity.KEY_METRIC_ISC_STD], rel=1e-9)


def test_a_distance_without_bias_is_that_of_the_distributions() -> None:
    """Normal distributions with the deviations 1 and 1.5: D / 4. The biased distance is far too large of 200 images."""
    dims, found, biased = 30, [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(200, dims)), 1.5 * rng.normal(size=(300, dims))
        found.append(frechet_without_bias(a, b))
        biased.append(frechet_distance(moments(a), moments(b)))
    assert np.mean(biased) > 1.3 * dims / 4
    assert np.mean(found) == pytest.approx(dims / 4, rel=0.03)


def line(*places: float) -> FeatureArray:
    return np.array(places, dtype=np.float32)[:, None]


def test_precision_and_recall_by_hand() -> None:
    """k = 1. The real 0, 1, 10 have radii 1, 1, 9; the drawn 2.5, 3, 30 have 0.5, 0.5, 27."""
    real, drawn = line(0, 1, 10), line(2.5, 3, 30)
    precision, recall = precision_recall(drawn, real, k=1)
    assert precision == pytest.approx(2 / 3)  # 2.5 and 3 lie within 9 of 10; 30 lies in no ball
    assert recall == pytest.approx(1 / 3)  # 10 lies within 27 of 30; 0 and 1 are too far from all


def test_a_point_on_the_edge_of_a_ball_lies_inside() -> None:
    """The real 0 and 4 have radius 4: 8 is just inside, 8.5 is not; of the drawn, the radius is 0.5."""
    assert precision_recall(line(8, 8.5), line(0, 4), k=1) == (0.5, 0.0)
    assert precision_recall(line(0, 4), line(8, 8.5), k=1) == (0.0, 0.5)


def test_the_kth_neighbour_does_not_count_the_point_itself_but_its_twins() -> None:
    """Real: 0, 0, 5. With k = 1 the twins have radius 0, and what is drawn must hit them; with k = 2 it is 5."""
    real = line(0, 0, 5)
    assert precision_recall(line(0, 1, -1, -4), real, k=1).precision == pytest.approx(2 / 4)  # 0, and 1 by way of 5
    assert precision_recall(line(0, 1, -1, -4), real, k=2).precision == 1.0


def test_density_and_coverage_by_hand() -> None:
    """k = 1. The real 0, 1, 10 have radii 1, 1, 9: 1 lies in all three, 2 in those of 1 and 10, 30 in none."""
    assert density_coverage(line(1, 2, 30), line(0, 1, 10), k=1) == pytest.approx((5 / 3, 1.0))
    assert density_coverage(line(30, 31), line(0, 1, 10), k=1) == (0.0, 0.0)
    assert density_coverage(line(12, 13), line(0, 1, 10), k=1) == pytest.approx((1.0, 1 / 3))


def test_two_samples_of_one_distribution_have_the_expected_density_and_coverage() -> None:
    """Density is 1, and coverage of M = N is 1 - C(2N - k - 1, N) / C(2N, N), near 1 - 2^-k (Naeem et al., eq. 10)."""
    rng, found = np.random.default_rng(1), []
    for _ in range(20):
        found.append(density_coverage(*rng.normal(size=(2, 300, 4)).astype(np.float32), k=5))
    density, coverage = np.mean(found, axis=0)
    assert density == pytest.approx(1, abs=0.03)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.01)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difuso.evaluation.distances.BLOCK", 7)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.usefixtures("small_blocks")
def test_precision_and_recall_are_torch_fidelity_s(k: int) -> None:
    pytest.importorskip("torch_fidelity", reason="torch-fidelity comes with the extra evaluate")
    from torch_fidelity.metric_prc import prc_features_to_metric

    rng = np.random.default_rng(2)
    drawn = rng.normal(0.6, 0.8, size=(150, 6)).astype(np.float32)
    real = rng.normal(size=(220, 6)).astype(np.float32)
    theirs = prc_features_to_metric(
        torch.from_numpy(drawn), torch.from_numpy(real), prc_neighborhood=k, prc_batch_size=64, verbose=False
    )
    assert 0.2 < theirs["recall"] < theirs["precision"] < 1.0
    ours = precision_recall(drawn, real, k=k)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_images_of_the_same_kind_are_nearer_than_noise(channels: int) -> None:
    faces = np.stack(list(draw_faces("test", 64, 64)))[..., :channels]
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 64, channels), dtype=np.uint8)
    distance = kid_from(faces[:32])
    assert abs(distance(faces[32:])) < 40 < 200 < distance(noise)
