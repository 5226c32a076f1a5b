"""Precision and recall of points made by hand, and by torch-fidelity's code on the same features."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from difuso.evaluation.distances import density_coverage, precision_recall
from difuso.evaluation.features import FeatureArray

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_memory_is_that_of_a_few_blocks_and_not_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """50,000 pictures have 10 GB of distances."""
    monkeypatch.setattr("difuso.evaluation.distances.BLOCK", 50)
    features = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    block, all_pairs = 50 * 2000 * 4, 2000 * 2000 * 4
    tracemalloc.start()
    precision_recall(features, features)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * block < all_pairs / 6


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
