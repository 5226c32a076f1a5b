"""Tuning finds the best run where it is known, and its features see what changes an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.tuning import APART, OwnFeatures, _in_order, distance_from, tune
from model import load_checkpoint
from training.images import ImageArray

pytestmark = pytest.mark.usefixtures("one_thread")


def told(timesteps: Sequence[float], eta: float) -> ImageArray:
    """An "image" that only tells which run it is of."""
    return np.array([*timesteps, eta])


@pytest.mark.parametrize("noisy", [False, True])
def test_the_best_run_is_found(noisy: bool) -> None:
    goal = np.array([90.0, 410.0, 820.0, 0.4 if noisy else 0.0])

    def distance(run: ImageArray) -> float:
        return float(np.square((run - goal) / [100, 100, 100, 1]).sum())

    before, after = tune(told, distance, [(0, 333, 666), (333, 666, 999)], last=999, noisy=noisy, rounds=250)
    assert before.timesteps == (0.0, 333.0, 666.0)
    assert after.distance < 1e-3 < before.distance
    assert after.timesteps == pytest.approx((90, 410, 820), abs=3)
    assert after.eta == pytest.approx(goal[3], abs=0.03)


def test_no_more_runs_than_allowed_and_the_best_of_them() -> None:
    tried: list[float] = []

    def distance(run: ImageArray) -> float:
        tried.append(float(np.sin(run.sum())))
        return tried[-1]

    before, after = tune(told, distance, [(10, 500), (20, 999)], last=999, noisy=True, rounds=30)
    assert len(tried) <= 30
    assert after.distance == min(tried)
    assert before.distance == min(tried[:4])


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12))
def test_any_timesteps_are_put_in_order(timesteps: list[float]) -> None:
    ordered = _in_order(np.array(timesteps), 999)
    assert 0 <= ordered[0] <= ordered[-1] <= 999
    assert (np.diff(ordered) >= APART - 0.011).all()


def test_features_tell_images_apart_and_leave_the_network_as_it_was(models_dir: Path) -> None:
    checkpoint = load_checkpoint(models_dir / "tiny")
    rng = np.random.default_rng(0)

    def images(low: int, count: int) -> ImageArray:
        return rng.integers(low, 256, (count, 16, 16, 3), dtype=np.uint8)

    real, same, other = images(0, 64), images(0, 40), images(128, 40)
    features = OwnFeatures(checkpoint)
    distance = distance_from(real, features)
    assert abs(distance(same)) < distance(other) / 20
    assert np.array_equal(features(same), features(same))
    assert features(same[:33])[32] == pytest.approx(features(same)[32], rel=1e-4, abs=1e-5)
    assert not any(layer._forward_hooks for layer in checkpoint.network.modules())
