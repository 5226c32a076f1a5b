"""Samplers without a network: on Gaussian data the best predictor is a formula, so every result is known.

Pixels ~ N(0, s^2) make the predicted clean image a multiple of x_t, E[x0 | x_t] = g x_t. A deterministic run then only
scales x_T; a stochastic one turns variance 1 into another. Both follow from the plan's table: see `tests.oracle`.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from difuso.model import NoiseSchedule, make_plan
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.plan import Column, Plan, Variance, tabulate
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.samplers.transition import Options
from difuso.model.plans.spacing import EXPONENTIAL, KARRAS, SPACINGS, Levels, visit_levels
from tests.oracle import LINEAR, abar_at, flow, follow, slopes

EXACT = 0.50000757  # the probability flow's own multiplier at s = 0.5 (section 2.9)
GRIDS = [*SPACINGS, EXPONENTIAL, KARRAS]

# Section 2.9 of the reference "diffusion-science": s = 0.5, x_T of variance 1, no clipping, float64. Columns: the
# multiplier of DDIM (linspace, trailing, leading) and of DPM-Solver++(2M) (likewise), the std of DDPM fixed small.
GOLDEN = {
    250: (0.494271, 0.494085, 0.494286, 0.500971, 0.500119, 0.500971, 0.485814),
    100: (0.485848, 0.485447, 0.485981, 0.506874, 0.500793, 0.506835, 0.467954),
    50: (0.471915, 0.471403, 0.472439, 0.527840, 0.500551, 0.526754, 0.443193),
    25: (0.444257, 0.444397, 0.446345, 0.589550, 0.489007, 0.584801, 0.404314),
    10: (0.361612, 0.369955, 0.374128, 0.692675, 0.404764, 0.690974, 0.322835),
}
RUNS = [("ddim", "linspace"), ("ddim", "trailing"), ("ddim", "leading"), ("dpmpp", "linspace"), ("dpmpp", "trailing")]
RUNS += [("dpmpp", "leading"), ("ddpm", "linspace")]


def multiplier(sampler: str, steps: int, spacing: str, s: float = 0.5) -> float:
    return follow(make_plan(LINEAR, sampler=sampler, steps=steps, spacing=spacing, clip="none"), s).multiplier


def plan_over(levels: Levels, sampler: str, variance: Variance = "fixed_small") -> Plan:
    """A plan that `make_plan` would refuse, or over levels that no spacing names."""
    transitions = SAMPLERS[sampler].transitions(levels.chain, Options(variance=variance))
    return tabulate(levels, transitions, prediction="eps", clipping=Clipping("none"))


def test_the_exact_flow_of_the_oracle() -> None:
    """The target of every deterministic sampler: section 2.9."""
    assert flow(0.5) == pytest.approx(EXACT, abs=1e-8)
    assert flow(1.0) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("steps", GOLDEN)
def test_narrow_gaussian_ends_at_the_published_value(steps: int) -> None:
    for (sampler, spacing), golden in zip(RUNS, GOLDEN[steps], strict=True):
        outcome = follow(make_plan(LINEAR, sampler=sampler, steps=steps, spacing=spacing, clip="none"), s=0.5)
        assert (outcome.std if sampler == "ddpm" else outcome.multiplier) == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize(
    ("steps", "golden"),
    # Section 2.9, s = 0.5, linspace. Coarse ones have no plan (make_plan refuses them), so the sampler is asked itself.
    [(1000, 0.500752), (50, 0.517574), (10, 0.598766)],
)
def test_fixed_large_ends_at_the_published_std(steps: int, golden: float) -> None:
    outcome = follow(plan_over(visit_levels(LINEAR, "linspace", steps), "ddpm", "fixed_large"), s=0.5)
    assert outcome.std == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize("steps", [1000, 10])
def test_fixed_small_is_exact_for_a_point(steps: int) -> None:
    """Ho et al. 2020, section 3.2: with x0 known, each x_t has the variance 1 - abar_t of the forward process."""
    chain = visit_levels(LINEAR, "linspace", steps).chain
    variance = 1 - chain.alphas_cumprod[-1]
    for transition in SAMPLERS["ddpm"].transitions(chain, Options()):
        variance = transition.a**2 * variance + transition.s**2
        assert variance == pytest.approx(1 - chain.alphas_cumprod_prev[transition.level], abs=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_ddim_is_of_first_order(spacing: str) -> None:
    """Twice the steps, half the error."""
    errors = [EXACT - multiplier("ddim", steps, spacing) for steps in (100, 200, 400)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.15)


def karras_errors(sampler: str, counts: tuple[int, ...]) -> list[float]:
    """Distances from where ever finer grids end: the exact flow to sigma_0, and then E[x0 | x_0]."""
    lowest = LINEAR.sigmas[0]
    limit = flow(0.5) * 0.5 / math.sqrt(0.5**2 + lowest**2)
    return [abs(multiplier(sampler, count, KARRAS) - limit) for count in counts]


def test_euler_is_of_first_order_on_the_karras_grid() -> None:
    """Twice the steps, half the error: 1.97, 1.99 and 1.99 measured."""
    errors = karras_errors("euler", (20, 40, 80, 160))
    assert [coarse / fine for coarse, fine in itertools.pairwise(errors)] == pytest.approx([2] * 3, abs=0.04)


@pytest.mark.parametrize("odd", [0, 1])
def test_heun_is_of_second_order_on_the_karras_grid(odd: int) -> None:
    """Twice the calls, a quarter of the error; nearer to 4 with every doubling, as the third order's share halves.

    Measured: 4.23, 4.12 and 4.06 for even numbers of calls, whose first step is of first order; 4.48, 4.23 and 4.11 for
    odd ones. A method of first order would be at 2, one of third order at 8. The margins are twice what is measured.
    """
    errors = karras_errors("heun", tuple(count - odd for count in (40, 80, 160, 320)))
    ratios = [coarse / fine for coarse, fine in itertools.pairwise(errors)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios == pytest.approx([4, 4, 4], abs=1.0)
    assert ratios[-1] == pytest.approx(4, abs=0.25)


@pytest.mark.parametrize(("steps", "spacing"), [*zip((1, 2, 10, 30, 250, 300), GRIDS, strict=False)])
def test_ddim_with_eta_1_is_ancestral_sampling(steps: int, spacing: str) -> None:
    """Song et al. 2021, section 4.1: row by row the same mean and variance as fixed small on the respaced chain."""
    ancestral = make_plan(LINEAR, sampler="ddpm", steps=steps, spacing=spacing)
    implicit = make_plan(LINEAR, sampler="ddim", eta=1.0, steps=steps, spacing=spacing)
    assert implicit.timesteps == ancestral.timesteps
    assert implicit.table == pytest.approx(ancestral.table, rel=1e-9, abs=1e-11)
    assert follow(implicit, s=0.5) == pytest.approx(follow(ancestral, s=0.5), rel=1e-9)


@pytest.mark.parametrize(
    ("sampler", "eta"),
    [("ddim", 0.0), ("ddim", 0.3), ("ddim", 1.0), ("dpmpp", 0.0), ("dpmpp", 0.5), ("dpmpp", 3.0), ("dpmpp", 10.0)],
)
def test_eta_keeps_the_noise_level_of_each_timestep(sampler: str, eta: float) -> None:
    """For any eta a step from sqrt(abar) x0 + sqrt(1 - abar) eps ends at the marginal of the next timestep."""
    plan = make_plan(LINEAR, sampler=sampler, eta=eta, steps=40, clip="none")
    abar = abar_at(LINEAR, plan.timesteps)
    abar_next = np.append(abar[1:], 1.0)
    a, b, c, s = (plan.table[:, column] for column in (Column.A, Column.B, Column.C, Column.S))
    assert a * np.sqrt(abar) + b + c == pytest.approx(np.sqrt(abar_next), rel=1e-10)  # of x0
    assert a**2 * (1 - abar) + s**2 == pytest.approx(1 - abar_next, abs=1e-12)  # of the noise


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_known_image_is_returned(sampler: str) -> None:
    """If every prediction is the same x0, the run ends at x0, wherever it began."""
    for steps, spacing in itertools.product((1, 2, 7, 50), GRIDS):
        plan = make_plan(LINEAR, sampler=sampler, spacing=spacing, steps=steps)
        x, x0, kept = -2.0, 0.25, [0.0, 0.0, 0.0]
        for row in plan.table:
            keep = row[Column.KEEP_X], row[Column.KEEP_X0]
            now = keep[0] * x + keep[1] * x0
            x = (
                row[Column.A] * x
                + row[Column.B] * x0
                + row[[Column.C, Column.D, Column.H]] @ kept
                + row[Column.S] * 1.0
            )
            kept = [now, *kept[:2]] if any(keep) else kept
        assert x == pytest.approx(x0, abs=1e-12), (steps, spacing)


def test_dpmpp_may_draw_noise_where_nothing_is_left_of_the_image() -> None:
    """The first step is infinitely long in lambda there: the noise is drawn anew, at the next level."""
    chain = LINEAR.rescale_zero_terminal_snr()
    plan = make_plan(chain, sampler="dpmpp", eta=2.0, steps=5, spacing="trailing", prediction="v")
    abar = chain.alphas_cumprod[int(plan.timesteps[1])]
    assert plan.table[0, [Column.A, Column.B, Column.S]] == pytest.approx(
        [0.0, abar**0.5, (1 - abar) ** 0.5], rel=1e-12
    )
    assert np.isfinite(plan.table[:, [Column.A, Column.B, Column.C, Column.S]]).all()


@pytest.mark.parametrize("eta", [0.0, 1e-9, 1e-4, 0.5, 1.0, 3.0, 10.0])
def test_dpmpp_counts_a_change_the_less_the_longer_noise_was_in_it(eta: float) -> None:
    """k is the integral of u e^-n(1-u), n of the step before; here by the midpoint rule. 1/2 without noise."""
    plan = make_plan(LINEAR, sampler="dpmpp", eta=eta, steps=25, spacing="trailing", clip="none")
    k, before = slopes(plan)
    u = (np.arange(10_000) + 0.5) / 10_000
    assert k == pytest.approx((u * np.exp(-eta * before[:, None] * (1 - u))).mean(axis=1), rel=1e-7)
    if not eta:
        assert k == pytest.approx(np.full(23, 0.5), rel=1e-12)


@pytest.mark.parametrize(("eta", "ratio", "s"), [(0.0, 4, 0.1), (0.5, 4, 0.5), (1.0, 8, 2.0), (3.0, 4, 0.5)])
def test_dpmpp_is_of_second_order_with_any_noise(s: float, eta: float, ratio: float) -> None:
    """Twice the steps, evenly in lambda, and a quarter of the error in the spread; an eighth with eta 1."""
    chains = [NoiseSchedule.geometric(steps) for steps in (400, 800, 1600)]
    plans = [
        make_plan(chain, sampler="dpmpp", eta=eta, steps=chain.num_train_timesteps, spacing="linspace", clip="none")
        for chain in chains
    ]
    coarse, middle, fine = (follow(plan, s, chain).std for plan, chain in zip(plans, chains, strict=True))
    assert (coarse - middle) / (middle - fine) == pytest.approx(ratio, rel=0.15)
