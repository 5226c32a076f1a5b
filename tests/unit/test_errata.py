"""What docs/errata.md says in numbers, where no other test holds it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from difuso.model import NoiseSchedule, make_plan
from difuso.model.images import from_levels, to_uint8
from difuso.model.noise import q_sample
from difuso.model.plans.plan import Column, Variance
from difuso.model.plans.schedule import FloatTable

pytestmark = pytest.mark.usefixtures("one_thread")

LINEAR = NoiseSchedule.linear(1000)
BETA, ABAR = LINEAR.betas, LINEAR.alphas_cumprod


def ideal_eps(keep: FloatTable, s: float = 0.5) -> FloatTable:
    """The best eps / x for pixels ~ N(0, s^2) and x = sqrt(keep) x0 + sqrt(1 - keep) eps, at each timestep."""
    return np.sqrt(1 - keep) / (keep * s * s + 1 - keep)


def ancestral_spread(eps: FloatTable, *, noise: float = 1.0) -> float:
    """Where 1000 steps of Fig. 6, corrected, end from N(0, 1), if the network answers eps[t] x; `noise` scales z."""
    plan = make_plan(LINEAR, sampler="ddpm", variance="fixed_large", steps=1000, spacing="linspace", clip="none")
    variance = 1.0
    for row, t in zip(plan.table, plan.timesteps, strict=True):
        x0 = row[Column.X0_X] + row[Column.X0_OUT] * eps[int(t)]
        variance = (row[Column.A] + row[Column.B] * x0) ** 2 * variance + (noise * row[Column.S]) ** 2
    return math.sqrt(variance)


def test_e8_the_loss_without_bars_knows_little_noise_and_draws_far_outside_of_images() -> None:
    assert ABAR[39] > 1 - BETA[999] > ABAR[40]
    assert ancestral_spread(ideal_eps(ABAR)) == pytest.approx(0.500752, abs=1e-6)
    assert ancestral_spread(ideal_eps(1 - BETA)) == pytest.approx(4.6093, abs=1e-4)


def test_c3_without_noise_every_picture_is_the_mean() -> None:
    """The same 0.0016 is what an ancestral run keeps of its start (E11)."""
    assert ancestral_spread(ideal_eps(ABAR), noise=0.0) == pytest.approx(0.001588, abs=1e-6)


@pytest.mark.parametrize("s", [0.5, 1.0])
def test_c3_the_printed_update_diverges_with_an_ideal_predictor(s: float) -> None:
    """On the quantiles of N(0, 1), in float32."""
    count = 10_000
    x = torch.tensor([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    overflowed = {}
    for step, t in enumerate(range(999, 0, -1), start=1):
        eps = ideal_eps(ABAR, s)[t] * x
        x = x / math.sqrt(1 - BETA[t]) * (x - BETA[t] / math.sqrt(1 - ABAR[t]) * eps)
        overflowed[step] = 1 - float(x.isfinite().double().mean())
    assert overflowed[8] == pytest.approx(0.153, abs=1e-3)
    assert overflowed[21] == overflowed[999] == pytest.approx(0.3124, abs=2e-4)
    assert not x[x.isfinite()].any()
    assert not x.isinf().any()  # all that overflowed is NaN by now


@pytest.mark.parametrize(("variance", "left"), [("fixed_small", 0.0067430), ("fixed_large", 0.0080576)])
def test_c4_a_loop_that_never_visits_index_0_leaves_noise(variance: Variance, left: float) -> None:
    """The share of the image and of the noise in x, followed through the plan; the network knows the image."""
    plan = make_plan(LINEAR, sampler="ddpm", variance=variance, steps=1000, spacing="linspace")
    a, b, s = (plan.table[:, column] for column in (Column.A, Column.B, Column.S))
    image, noise = math.sqrt(ABAR[999]), math.sqrt(1 - ABAR[999])
    for i in range(999):
        silent = i == 998  # where the loop's i is 1
        image, noise = a[i] * image + b[i], math.hypot(a[i] * noise, 0.0 if silent else s[i])
    assert image == pytest.approx(math.sqrt(ABAR[0]), abs=1e-9)
    assert noise == pytest.approx(left, abs=1e-7)
    assert (a[999] * image + b[999], a[999] * noise) == pytest.approx((1.0, 0.0), abs=1e-9)


def test_c7_truncation_costs_half_a_grey_level_and_rounding_nothing() -> None:
    x = (torch.arange(255 * 100, dtype=torch.float64) + 0.5).view(1, 1, 100, 255) / (127.5 * 100) - 1
    truncated = ((x + 1) / 2 * 255).type(torch.uint8)
    rounded = to_uint8(x).permute(0, 3, 1, 2)
    exact = (x + 1) * 127.5
    assert float((truncated - exact).mean()) == pytest.approx(-0.5, abs=1e-9)
    assert float((rounded - exact).mean()) == pytest.approx(0.0, abs=1e-9)
    assert float((truncated - exact).abs().max()) > 0.99
    assert float((rounded - exact).abs().max()) <= 0.5


def test_c7_truncation_does_not_survive_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    x = from_levels(levels)
    truncated = ((x + 1) / 2 * 255).type(torch.uint8).permute(0, 2, 3, 1)
    lost = levels.int() - truncated.int()
    assert (int(lost.sum()), int(lost.max())) == (63, 1)


def test_e9_the_bound_and_the_simple_loss_weigh_timesteps_differently() -> None:
    """Ho et al. 2020, eq. 12, with the variance beta."""
    weights = BETA / (2 * (1 - BETA) * (1 - ABAR))
    expected = [0.2727, 0.0737, 0.0101, 0.0050, 0.0055, 0.0102]
    assert weights[[1, 9, 99, 348, 499, 999]] == pytest.approx(expected, abs=5e-5)
    assert weights[1:].argmin() + 1 == 348
    assert weights[1] / weights[348] == pytest.approx(55, abs=0.2)


def test_e15_cross_entropy_has_no_minimum_for_a_normal_target() -> None:
    outside = 1 - (NormalDist().cdf(1) - NormalDist().cdf(0))
    assert outside == pytest.approx(0.66, abs=0.005)
    assert F.binary_cross_entropy_with_logits(torch.tensor(-1000.0), torch.tensor(-1.0)) == -1000


def test_e17_only_shared_noise_keeps_its_level_in_a_mix() -> None:
    """The mix of two noisy images is linear in their noise: its weights, squared and summed, are its variance."""
    t, nothing, unit = torch.tensor([499]), torch.zeros(1, 1, 1, 2, dtype=torch.float64), torch.eye(2).double()

    def variance(noise_a: torch.Tensor, noise_b: torch.Tensor) -> float:
        a, b = (q_sample(LINEAR, nothing, t, noise.view(1, 1, 1, 2)) for noise in (noise_a, noise_b))
        return float(torch.lerp(a, b, 0.5).square().sum())

    assert variance(unit[0], unit[1]) == pytest.approx(0.4607, abs=1e-4)
    assert variance(unit[0], unit[0]) == pytest.approx(1 - ABAR[499]) == pytest.approx(0.9214, abs=1e-4)
