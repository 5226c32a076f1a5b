"""Networks that were trained on noise levels are denoisers of x_t and t like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from difuso.model import NoiseSchedule, PlanError, make_plan, sample
from difuso.model.networks.layers import double, halve
from difuso.model.networks.preconditioned import Preconditioned
from difuso.model.plans.plan import Column
from difuso.model.plans.prediction import Preconditioning
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.schedule import ContinuousLinear
from tests.oracle import GaussianDenoiser
from tests.rounding import assert_rounded_alike

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

GEOMETRIC = NoiseSchedule.geometric(1000)
VPSDE = ContinuousLinear.of(1000)
S = 0.4  # standard deviation of the images
T = torch.tensor([0.0, 12.25, 500.0, 998.5, 999.0])
SHAPE = (1, 4, 4)


class Recorder(nn.Module):
    """A network that remembers what it was given, and returns some multiple of its input."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.given = factor, list[tuple[Tensor, ...]]()

    def forward(self, x: Tensor, noise: Tensor, **recorder: Tensor) -> Tensor:
        self.given.append((x, noise, *recorder.values()))
        return self.factor * x


def x_t() -> Tensor:
    return torch.randn((len(T), *SHAPE), generator=torch.Generator().manual_seed(0))


def edm(factor: float = 0.0) -> Preconditioned:
    """With the factor 0 the exact denoiser of N(0, S^2), which is c_skip alone."""
    return Preconditioned(Recorder(factor), Preconditioning("edm", S), GEOMETRIC)


def test_the_geometric_schedule_spaces_the_logarithms_of_its_sigmas() -> None:
    schedule = NoiseSchedule.geometric(5, sigma_min=0.01, sigma_max=100)
    assert np.allclose(schedule.sigmas, [0.01, 0.1, 1, 10, 100], rtol=1e-9)
    between = np.array([0.5, 3.25])
    assert np.allclose(schedule.sigma_at(between), [10**-1.5, 10**1.25], rtol=1e-9)
    assert np.allclose(schedule.timestep_at(schedule.sigma_at(between)), between, rtol=1e-9)
    for wrong in ({"sigma_min": 2.0, "sigma_max": 2.0}, {"sigma_min": 0.0}):
        with pytest.raises(PlanError, match="sigma_min must be positive and less than sigma_max"):
            NoiseSchedule.geometric(5, **wrong)


def test_the_continuous_schedule_is_that_of_the_vp_sde() -> None:
    """Song et al. 2021, eq. 29 to 33: beta(s) = 0.1 + 19.9 s, integrated here by Simpson's rule, which is exact."""
    s = np.array([0.001, 0.01, 0.3337, 1.0])
    integral = s / 6 * (0.1 + 4 * (0.1 + 19.9 * s / 2) + 0.1 + 19.9 * s)
    sigmas = np.sqrt(1 / np.exp(-integral) - 1)
    t = 1000 * s - 1
    assert np.allclose(VPSDE.sigma_at(t), sigmas, rtol=1e-9)
    assert np.allclose(VPSDE.timestep_at(sigmas), t, rtol=1e-9, atol=1e-9)
    assert np.allclose(VPSDE.sigmas, VPSDE.sigma_at(np.arange(1000.0)), rtol=1e-9)


@pytest.mark.parametrize("schedule", [GEOMETRIC, VPSDE], ids=["geometric", "continuous"])
def test_edm_gives_the_network_its_noise_and_scales_its_input_to_unit_variance(schedule: NoiseSchedule) -> None:
    """Karras et al. 2022, table 1, of y = x_t / sqrt(abar); x_t of images N(0, S^2) has another variance at each t."""
    recorder = Recorder(1.0)
    out = Preconditioned(recorder, Preconditioning("edm", S), schedule)(x_t(), T)
    ((x, noise),) = recorder.given
    steps = np.arange(1000.0)
    sigma = torch.from_numpy(np.exp(np.interp(T.double().numpy(), steps, np.log(schedule.sigmas))))
    y = x_t() * (1 + sigma**2).sqrt().view(-1, 1, 1, 1)
    total = (sigma**2 + S**2).sqrt().view(-1, 1, 1, 1)
    assert torch.allclose(noise.double(), sigma.log() / 4, atol=1e-6)
    assert torch.allclose(x.double(), y / total, rtol=1e-5)
    expected = S**2 / total**2 * y + sigma.view(-1, 1, 1, 1) * S / total * (y / total)
    assert torch.allclose(out.double(), expected, rtol=1e-5, atol=1e-6)


def test_ve_sees_the_unscaled_image_and_predicts_the_negative_noise() -> None:
    recorder = Recorder(2.0)
    out = Preconditioned(recorder, Preconditioning("ve"), GEOMETRIC)(x_t(), T)
    ((x, noise),) = recorder.given
    sigma = torch.from_numpy(GEOMETRIC.sigma_at(T.double().numpy()))
    assert torch.allclose(noise.double(), (sigma / 2).log(), atol=1e-6)
    assert torch.allclose(x.double(), x_t() * (1 + sigma**2).sqrt().view(-1, 1, 1, 1), rtol=1e-5)
    assert torch.equal(out, -2 * x)


def test_vp_gets_its_time_of_999() -> None:
    recorder = Recorder(2.0)
    labels = torch.arange(5)
    out = Preconditioned(recorder, Preconditioning("vp"), VPSDE)(x_t(), T, labels=labels)
    ((x, noise, given),) = recorder.given
    assert torch.allclose(noise, 999 * (T + 1) / 1000)
    assert torch.equal(x, x_t())
    assert torch.equal(out, 2 * x)
    assert given is labels


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_with_it_what_it_draws_with_the_formula(sampler: str) -> None:
    """Of images N(0, S^2), whose denoiser is a formula in x_t too; the tests of samplers show what comes of it.

    In float64, so that what differs is the float32 of the network's scales, which Heun's method multiplies by 42.
    """
    plan = make_plan(
        GEOMETRIC,
        sampler=sampler,
        steps=9,
        spacing=SAMPLERS[sampler].spacing or "leading",
        prediction="x0",
        clip="none",
    )
    formula = GaussianDenoiser(GEOMETRIC, S, "x0")
    mine, theirs = (sample(plan, each, shape=SHAPE, seeds=range(4), dtype=torch.float64) for each in (edm(), formula))
    assert theirs.std() > 0.1
    weights = plan.table[:, [Column.A, Column.B, Column.C, Column.D]]
    assert_rounded_alike(mine, theirs, steps=len(plan), largest=float(np.abs(weights).max() * theirs.abs().max()))


@pytest.mark.parametrize("ramp", ["rows", "columns"])
def test_the_binomial_filter_keeps_slopes_and_is_centred(ramp: str) -> None:
    """Inside, away from the zeros around an image: between pixels i and i + 1 is i + 1/2, and at a quarter i + 1/4."""
    x = torch.arange(8.0).expand(1, 1, 8, 8)
    x = x.mT if ramp == "rows" else x
    halved, doubled = halve(x, "binomial"), double(x, "binomial")
    halved, doubled = (y.mT if ramp == "rows" else y for y in (halved, doubled))
    assert torch.allclose(halved[0, 0, 1, 1:-1], torch.tensor([2.5, 4.5]))
    assert torch.allclose(doubled[0, 0, 3, 1:-1], torch.arange(14) / 2 + 0.25)
