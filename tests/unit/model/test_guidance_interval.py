"""Guidance without a classifier, and the noise levels where it acts: which rows, what they cost, and a closed form."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from difuso.model import Plan, PlanError, make_plan, sample
from difuso.model.ddrm import make_restoration
from difuso.model.guidance import MOST_SIGMA, UNGUIDED, Guidance
from difuso.model.operators import Colorization
from difuso.model.plans.inversion import make_inversion
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.schedule import FloatTable
from difuso.model.sampling import Denoiser
from tests.oracle import LINEAR, GaussianDenoiser, abar_at

SCALE, LOW, HIGH = 2.5, 0.2, 3.0
INTERVAL = Guidance(SCALE, LOW, HIGH)
SHAPE = (1, 2, 3)
LIST = "at:12.5,160.25,500,999"


def sigmas(plan: Plan) -> FloatTable:
    abar = abar_at(LINEAR, plan.timesteps)
    return np.array(np.sqrt((1 - abar) / abar))


def acting(plan: Plan) -> NDArray[np.bool_]:
    return np.array([scale != 1.0 for scale in plan.scales])


@pytest.mark.parametrize(
    ("sampler", "spacing", "steps"),
    [*((sampler, spacing, 21) for sampler in SAMPLERS for spacing in ("leading", "karras")), ("ddim", LIST, 4)],
)
def test_rows_are_guided_where_the_network_is_called_within_the_interval(
    sampler: str, spacing: str, steps: int
) -> None:
    plan = make_plan(LINEAR, sampler=sampler, steps=steps, spacing=spacing, **INTERVAL.settings)
    inside = (sigmas(plan) > LOW) & (sigmas(plan) <= HIGH)
    assert inside.any()
    assert not inside.all()
    assert plan.scales == tuple(np.where(inside, SCALE, 1.0))
    assert plan.costs == tuple(1 + inside)
    assert plan.spent == (0, *np.cumsum(1 + inside))


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (UNGUIDED, []),
        (Guidance(SCALE), [0.1, 1.0, 10.0, math.inf]),
        (Guidance(SCALE, low=1.0), [10.0, math.inf]),
        (Guidance(SCALE, high=1.0), [0.1, 1.0]),
        (Guidance(SCALE, low=0.1, high=10.0), [1.0, 10.0]),
        (Guidance(SCALE, low=0.0, high=MOST_SIGMA), [0.1, 1.0, 10.0, math.inf]),
        (Guidance(0.0, low=2.0, high=3.0), []),
    ],
)
def test_an_end_that_is_open_is_no_limit_and_the_upper_end_belongs_to_it(
    guidance: Guidance, expected: list[float]
) -> None:
    levels = np.array([0.1, 1.0, 10.0, math.inf])
    weights = guidance.weights(levels)
    assert weights.tolist() == [guidance.scale if level in expected else 1.0 for level in levels]


@pytest.mark.parametrize("steps", [7, 50])
def test_the_sigma_of_a_timestep_names_that_timestep(steps: int) -> None:
    """A run's chain rounds otherwise than the schedule of training, whose sigmas people and teachers look up."""
    for timestep in make_plan(LINEAR, steps=steps).timesteps:
        ends = float(LINEAR.sigmas[int(timestep)])
        below = make_plan(LINEAR, steps=steps, **Guidance(SCALE, high=ends).settings)
        above = make_plan(LINEAR, steps=steps, **Guidance(SCALE, low=ends).settings)
        assert [t <= timestep for t in below.timesteps] == acting(below).tolist()
        assert [t > timestep for t in above.timesteps] == acting(above).tolist()


def test_a_restoration_is_guided_at_the_levels_of_the_run() -> None:
    """So that a job whose price came from the one costs as much by the other."""
    run = make_plan(LINEAR, sampler="ddim", steps=20, **INTERVAL.settings)
    assert 0 < acting(run).sum() < 20
    operator = Colorization((3, 8, 8))
    restoration = make_restoration(LINEAR, operator, torch.zeros(1, 8, 8), sigma=0.0, steps=20, guidance=INTERVAL)
    assert restoration.plan.scales == run.scales


def test_an_inversion_is_guided_at_levels_of_its_own() -> None:
    run = make_inversion(LINEAR, steps=20, guidance=INTERVAL).plan
    assert 0 < acting(run).sum() < 19
    assert acting(run).tolist() == [LOW < sigma <= HIGH for sigma in sigmas(run)]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (3.0, 0.2, "guidance_high must be greater than guidance_low, 3, got 0.2"),
        (1.0, 1.0, "guidance_high must be greater than guidance_low, 1, got 1.0"),
        (None, 0.0, "guidance_high must be greater than guidance_low, 0, got 0.0"),
        (-0.1, None, "guidance_low must lie between 0 and 1e+06, got -0.1"),
        (math.nan, None, "guidance_low must lie between 0 and 1e+06, got nan"),
        (None, math.inf, "guidance_high must lie between 0 and 1e+06, got inf"),
        (None, math.nan, "guidance_high must lie between 0 and 1e+06, got nan"),
    ],
)
def test_an_interval_without_a_noise_level_is_refused(low: float | None, high: float | None, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        Guidance(SCALE, low, high)
    assert str(caught.value) == said


@pytest.mark.parametrize("guidance", [Guidance(SCALE), INTERVAL, Guidance(0.0, high=1.0)], ids=str)
def test_a_run_is_the_closed_form_of_two_gaussians(guidance: Guidance) -> None:
    """Both outputs are linear in x_t, so x_0 is x_T times the product of what each step makes of x_t."""
    network, base = GaussianDenoiser(s=0.5), GaussianDenoiser(s=0.9)
    plan = make_plan(LINEAR, sampler="ddim", steps=20, clip="none", **guidance.settings)
    start = torch.randn((1, *SHAPE), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = sample(plan, network, shape=SHAPE, seeds=[0], dtype=torch.float64, noise=start, base=base)

    expected = 1.0
    abars = [*abar_at(LINEAR, plan.timesteps), 1.0]
    for abar, after in itertools.pairwise(abars):
        sigma = math.sqrt((1 - abar) / abar)
        low, high = guidance.low or 0.0, math.inf if guidance.high is None else guidance.high
        eps, weak = (math.sqrt(1 - abar) / (abar * s**2 + 1 - abar) for s in (0.5, 0.9))
        if low < sigma <= high:
            eps = weak + guidance.scale * (eps - weak)
        expected *= math.sqrt(after) * (1 - math.sqrt(1 - abar) * eps) / math.sqrt(abar) + math.sqrt(1 - after) * eps
    assert torch.allclose(found, expected * start, rtol=1e-9, atol=0)
    assert len(network.timesteps) == 20
    assert base.timesteps == [t for t, guided in zip(plan.timesteps, acting(plan), strict=True) if guided]


def test_a_learned_variance_is_not_guided() -> None:
    plan = make_plan(LINEAR, sampler="ddpm", steps=8, variance="learned_range", **INTERVAL.settings)
    network, base = GaussianDenoiser(s=0.5), GaussianDenoiser(s=0.9)

    def widened(denoiser: GaussianDenoiser, second: float) -> Denoiser:
        return lambda x, t: torch.cat([denoiser(x, t), torch.full_like(x, second)], dim=1)

    def run(second: float) -> Tensor:
        return sample(plan, widened(network, 0.3), base=widened(base, second), shape=SHAPE, seeds=[1])

    assert torch.equal(run(0.3), run(-5.0))
