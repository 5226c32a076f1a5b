"""The variance of ancestral sampling: fixed at an end of its range, or learned, per pixel, between both."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule, make_plan, sample
from difuso.model.plans.plan import Column, Plan, Variance
from difuso.model.step import advance
from tests.oracle import LINEAR, GaussianDenoiser, abar_at

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 5, 7)
GRIDS = [(1000, "linspace"), (50, "leading"), (10, "karras"), (2, "quad")]


def ddpm(steps: int, spacing: str, variance: Variance, **arguments: Any) -> Plan:
    return make_plan(LINEAR, sampler="ddpm", steps=steps, spacing=spacing, variance=variance, **arguments)


def range_of(plan: Plan) -> tuple[list[float], list[float]]:
    """(posterior variance, beta) of each row but the last, from the levels alone: beta' = 1 - abar / abar'."""
    abar = abar_at(LINEAR, plan.timesteps)
    beta = 1 - abar[:-1] / abar[1:]
    return (beta * (1 - abar[1:]) / (1 - abar[:-1])).tolist(), beta.tolist()


@pytest.mark.parametrize(("steps", "spacing"), GRIDS)
def test_fixed_small_is_the_posterior_variance_of_the_respaced_chain(steps: int, spacing: str) -> None:
    plan = ddpm(steps, spacing, "fixed_small")
    small, _ = range_of(plan)
    assert plan.table[:-1, Column.S] ** 2 == pytest.approx(small, rel=1e-9)
    assert not plan.table[:, Column.V].any()


def test_fixed_large_is_beta_of_the_respaced_chain() -> None:
    plan = ddpm(500, "linspace", "fixed_large")
    _, large = range_of(plan)
    assert plan.table[:-1, Column.S] ** 2 == pytest.approx(large, rel=1e-9)


@pytest.mark.parametrize(("steps", "spacing"), GRIDS)
def test_learned_range_is_log_linear_between_both(steps: int, spacing: str) -> None:
    """Nichol & Dhariwal 2021, eq. 15, with f = (v + 1) / 2: v = -1 is the posterior variance, v = 1 is beta."""
    plan = ddpm(steps, spacing, "learned_range")
    s, v = plan.table[:-1, Column.S], plan.table[:-1, Column.V]
    small, large = map(np.array, range_of(plan))
    for f in (0.0, 0.25, 0.5, 1.0, 1.2):
        expected = np.exp(f * np.log(large) + (1 - f) * np.log(small))
        assert (s * np.exp(v * f)) ** 2 == pytest.approx(expected, rel=1e-9)


def noise_of(row: np.ndarray[Any, Any], learned: float) -> Tensor:
    """What a step adds to its mean where z is 1 and the network's second half says `learned`."""
    rows = torch.from_numpy(row.copy())[None]
    x, zero = torch.ones(1, *SHAPE, dtype=torch.float64), torch.zeros(1, *SHAPE, dtype=torch.float64)
    out = torch.cat([0.3 * x, torch.full_like(x, learned)], dim=1)
    return advance(x, zero, out, x, rows)[0] - advance(x, zero, out, zero, rows)[0]


@pytest.mark.parametrize("log_variance", [-12.0, 1.0])
def test_the_step_draws_with_the_learned_variance(log_variance: float) -> None:
    """The output of `learned` is the logarithm of the variance, at every level alike."""
    table = ddpm(50, "leading", "learned").table
    for row in (0, 25, 48):
        noise = noise_of(table[row], log_variance)
        assert noise.flatten().tolist() == pytest.approx([math.exp(log_variance / 2)] * 105, rel=1e-9)


@pytest.mark.parametrize(
    "schedule",
    [LINEAR, NoiseSchedule.cosine(1000), NoiseSchedule.linear(1), LINEAR.rescale_zero_terminal_snr()],
    ids=["linear", "cosine", "one", "zero-snr"],
)
@pytest.mark.parametrize("variance", get_args(Variance))
def test_no_variance_is_nan(schedule: NoiseSchedule, variance: Variance) -> None:
    """Neither at t = 0, whose posterior variance has no logarithm, nor on a chain of one step."""
    total = schedule.num_train_timesteps
    for steps in [total] if variance == "fixed_large" else {1, 2, 10, 500, total}:
        plan = make_plan(
            schedule,
            sampler="ddpm",
            steps=min(steps, total),
            spacing="trailing",
            variance=variance,
            prediction="v",
            classifier_scale=1.0,
        )
        assert np.isfinite(plan.table).all()
        assert (plan.table[:, Column.S] >= 0).all()


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp", "euler", "heun"])
def test_other_samplers_only_take_the_first_half(sampler: str) -> None:
    plan = make_plan(LINEAR, sampler=sampler, steps=9, spacing="trailing", variance="learned_range")
    oracle = GaussianDenoiser()

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.cat([oracle(x_t, t), x_t * 5], dim=1)

    assert torch.equal(sample(plan, denoiser, shape=SHAPE, seeds=[0]), sample(plan, oracle, shape=SHAPE, seeds=[0]))
