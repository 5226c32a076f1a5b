"""Timesteps may be drawn as unevenly as one likes: the weights keep the mean of the losses."""

from __future__ import annotations

import math

import pytest
import torch

from training.objective.timesteps import HISTORY, UNIFORM_SHARE, LogitNormal, LossSecondMoment, Stratified, Uniform

LOSSES = torch.tensor([8.0, 1.0, 0.5, 0.0])


def warm() -> LossSecondMoment:
    sampler = LossSecondMoment(len(LOSSES))
    for _ in range(HISTORY):
        sampler.learn(torch.arange(len(LOSSES)), torch.full((4,), 99.0))  # forgotten again
        sampler.learn(torch.arange(len(LOSSES)), LOSSES)
    for _ in range(HISTORY):
        sampler.learn(torch.arange(len(LOSSES)), LOSSES)
    return sampler


def test_uniform_timesteps_are_all_alike() -> None:
    t, weights = Uniform(4).draw(4000, torch.Generator().manual_seed(0))
    assert (torch.bincount(t) - 1000).abs().max() < 150
    assert torch.equal(weights, torch.ones(4000))


def test_stratified_timesteps_hold_one_of_every_part_and_each_image_s_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [Stratified(1000).draw(8, generator) for _ in range(1000)]
    assert all(sorted((t // 125).tolist()) == list(range(8)) for t, _ in drawn)
    assert all(torch.equal(weights, torch.ones(8)) for _, weights in drawn)
    of_first = torch.stack([t[0] for t, _ in drawn])
    assert (torch.bincount(of_first // 125, minlength=8) - 125).abs().max() < 5 * 11  # of a binomial's deviation
    assert len(set(torch.cat([t for t, _ in drawn]).tolist())) > 990


def test_the_logit_of_a_logit_normal_timestep_is_standard_normal() -> None:
    """Shares of the timesteps up to (t + 1) / T = sigmoid(z), against the normal distribution; none is out of range."""
    t, weights = LogitNormal(1000).draw(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(weights, torch.ones(20_000))
    assert 0 <= int(t.min()) <= int(t.max()) < 1000
    for z in (-2.0, -1.0, 0.0, 0.5, 2.0):
        share, expected = (t < 1000 / (1 + math.exp(-z))).double().mean(), 0.5 * (1 + math.erf(z / math.sqrt(2)))
        assert float(share) == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 20_000))


def test_until_every_timestep_has_been_heard_they_are_alike() -> None:
    sampler = LossSecondMoment(4)
    for _ in range(HISTORY):
        sampler.learn(torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 3.0]))
    assert sampler.probabilities().tolist() == [0.25] * 4


def test_probabilities_follow_the_second_moment_and_forget_no_timestep() -> None:
    expected = (1 - UNIFORM_SHARE) * LOSSES.double() / 9.5 + UNIFORM_SHARE / 4
    assert torch.allclose(warm().probabilities(), expected)


def test_the_second_moment_is_that_of_the_last_ten_losses() -> None:
    sampler = LossSecondMoment(2)
    for i in range(25):
        sampler.learn(torch.tensor([0, 1]), torch.tensor([float(i), 1.0]))
    root = torch.arange(15.0, 25.0).square().mean().sqrt()
    odds = sampler.probabilities()
    assert float((odds[0] - UNIFORM_SHARE / 2) / (odds[1] - UNIFORM_SHARE / 2)) == pytest.approx(float(root))


def test_weighted_losses_have_the_mean_of_uniform_timesteps_and_hardly_any_spread() -> None:
    t, weights = warm().draw(100_000, torch.Generator().manual_seed(0))
    weighted = weights * LOSSES[t]
    assert float(weighted.mean()) == pytest.approx(float(LOSSES.mean()), rel=0.01)
    assert weighted.std() < 0.05 * LOSSES.std()


def test_a_saved_sampler_goes_on_as_it_was() -> None:
    sampler, again = warm(), LossSecondMoment(len(LOSSES))
    again.load(sampler.state())
    for each in (sampler, again):
        each.learn(torch.tensor([3]), torch.tensor([5.0]))
    assert torch.equal(again.probabilities(), sampler.probabilities())
