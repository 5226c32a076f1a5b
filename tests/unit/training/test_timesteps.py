"""Timesteps are drawn from the distributions that their names say."""

from __future__ import annotations

import math

import pytest
import torch

from difuso.training.objective.objectives import logit_normal, stratified, uniform


def test_uniform_timesteps_are_all_alike() -> None:
    t = uniform(4000, torch.Generator().manual_seed(0), total=4)
    assert (torch.bincount(t) - 1000).abs().max() < 150


def test_stratified_timesteps_hold_one_of_every_part_and_each_image_s_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [stratified(8, generator, total=1000) for _ in range(1000)]
    assert all(sorted((t // 125).tolist()) == list(range(8)) for t in drawn)
    of_first = torch.stack([t[0] for t in drawn])
    assert (torch.bincount(of_first // 125, minlength=8) - 125).abs().max() < 5 * 11  # of a binomial's deviation
    assert len(set(torch.cat(drawn).tolist())) > 990


def test_the_logit_of_a_logit_normal_timestep_is_standard_normal() -> None:
    """Shares of the timesteps up to (t + 1) / T = sigmoid(z), against the normal distribution; none is out of range."""
    t = logit_normal(20_000, torch.Generator().manual_seed(0), total=1000)
    assert 0 <= int(t.min()) <= int(t.max()) < 1000
    for z in (-2.0, -1.0, 0.0, 0.5, 2.0):
        share, expected = (t < 1000 / (1 + math.exp(-z))).double().mean(), 0.5 * (1 + math.erf(z / math.sqrt(2)))
        assert float(share) == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 20_000))
