"""Consistency tuning follows its formulae, and its gradient comes from the noisier of the two calls only."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule
from difuso.training.objective.consistency import Consistency, log_normal, nearer

pytestmark = pytest.mark.processors

SCHEDULE = NoiseSchedule.cosine(1000)
LOSS = Consistency(SCHEDULE)
LEAST = float(SCHEDULE.sigmas[0])
SIGMAS = np.array([0.01, 0.3, 0.821, 5.0, 70.0])


def images() -> tuple[Tensor, Tensor, Tensor]:
    """x0, t and noise."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.rand((2, len(SIGMAS), 3, 4, 4), generator=generator, dtype=torch.float64)
    return x0, torch.from_numpy(SCHEDULE.timestep_at(SIGMAS)), noise


@pytest.mark.parametrize(("sigma", "ratio"), [(1e-9, 1 - 5 / 8), (1e9, 1 - 1 / 8), (1.0, 0.606059)])
def test_the_nearer_level_is_that_of_the_third_published_stage(sigma: float, ratio: float) -> None:
    """1 + 8 sigmoid(-1) = 3.152 at sigma 1, over 2^3."""
    assert nearer(np.array([sigma]), least=0.0) / sigma == pytest.approx(ratio, abs=1e-6)


def test_with_less_noise_than_the_network_knows_the_target_is_the_image() -> None:
    assert [*nearer(np.array([2 * LEAST, 3 * LEAST]), least=LEAST)] == [0, pytest.approx(9 / 8 * LEAST, rel=0.02)]


def test_noise_levels_are_drawn_as_published() -> None:
    """ln sigma ~ N(-1.1, 2^2), cut off at the least noise of the schedule and at 80."""
    t = log_normal(100_000, torch.Generator().manual_seed(0), schedule=SCHEDULE)
    sigmas = np.sort(SCHEDULE.sigma_at(t.numpy()))
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        expected = -1.1 + 2 * math.sqrt(2) * float(torch.erfinv(torch.tensor(2 * quantile - 1)))
        assert np.log(sigmas[int(quantile * 100_000)]) == pytest.approx(expected, abs=0.03)
    assert sigmas[0] == pytest.approx(SCHEDULE.sigmas[0])
    assert sigmas[-1] == pytest.approx(80)


def test_a_network_that_knows_the_image_is_consistent() -> None:
    x0, t, noise = images()

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        sigma = torch.from_numpy(SCHEDULE.sigma_at(t.double().numpy())).view(-1, 1, 1, 1)
        abar = 1 / (1 + sigma**2)
        return (abar.sqrt() * x_t - x0) / (1 - abar).sqrt()

    losses = LOSS(oracle, x0, t, noise)
    assert losses.error.max() < 1e-8  # the network's timesteps are float32


def test_a_network_that_says_nothing_has_the_loss_of_its_skip() -> None:
    """v = 0 leaves x̂_0 = abar (x0 + sigma noise)."""
    x0, t, noise = images()
    abar, below = (1 / (1 + sigma**2) for sigma in (SIGMAS, nearer(SIGMAS, least=LEAST)))
    losses = LOSS(lambda x_t, t: torch.zeros_like(x_t), x0, t, noise)
    for i, (high, low) in enumerate(zip(SIGMAS, nearer(SIGMAS, least=LEAST), strict=True)):
        difference = abar[i] * (x0[i] + high * noise[i]) - below[i] * (x0[i] + low * noise[i])
        assert float(losses.error[i]) == pytest.approx(float(difference.square().mean()), rel=1e-9)
        assert float(losses.loss[i]) == pytest.approx(float(difference.square().mean().sqrt()) / (high - low), rel=1e-9)


def test_the_target_has_no_gradient() -> None:
    """With a constant w as the output, d loss / d w is -spread times the mean difference over its root mean square."""
    x0, t, noise = images()
    w = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(LOSS(lambda x_t, t: w * torch.ones_like(x_t), x0, t, noise).loss.sum(), w)
    expected = 0.0
    for i, (high, low) in enumerate(zip(SIGMAS, nearer(SIGMAS, least=LEAST), strict=True)):
        guesses = []
        for sigma in (high, low):
            abar = 1 / (1 + sigma**2)
            guesses.append(abar * (x0[i] + sigma * noise[i]) - math.sqrt(1 - abar) * 0.1)
        difference = guesses[0] - guesses[1]
        spread = math.sqrt(1 - 1 / (1 + high**2))
        expected -= spread * float(difference.mean() / difference.square().mean().sqrt()) / (high - low)
    assert float(gradient) == pytest.approx(expected, rel=1e-9)
