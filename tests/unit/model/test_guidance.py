"""Classifier guidance where everything is known: pixels ~ N(0, s^2), of which a label y ~ N(x0, r^2) has been seen.

By Bayes' rule p(y | x_t) is Gaussian too, and so is p(x0 | y): guidance of scale 1 must make a model of the one that of
the other.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule, Plan, make_plan, sample
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.plan import Column, Variance
from difuso.model.step import advance
from tests.oracle import LINEAR, GaussianDenoiser, abar_at

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 5, 7)
S, R, Y = 0.5, 0.3, 0.4
POSTERIOR_MEAN = Y * S**2 / (S**2 + R**2)
POSTERIOR_S = S * R / math.hypot(S, R)


def abar_of(x: Tensor, t: Tensor) -> Tensor:
    return torch.from_numpy(abar_at(LINEAR, t.numpy())).to(x).view(-1, 1, 1, 1)


def guide(x_t: Tensor, t: Tensor) -> Tensor:
    """The gradient of log p(y | x_t) = log N(y; E[x0 | x_t], r^2 + Var[x0 | x_t])."""
    abar = abar_of(x_t, t)
    total = abar * S**2 + 1 - abar
    gain, variance = abar.sqrt() * S**2 / total, S**2 * (1 - abar) / total
    return gain * (Y - gain * x_t) / (R**2 + variance)


def conditional(x_t: Tensor, t: Tensor) -> Tensor:
    """The exact eps of pixels ~ p(x0 | y)."""
    abar = abar_of(x_t, t)
    return (1 - abar).sqrt() * (x_t - abar.sqrt() * POSTERIOR_MEAN) / (abar * POSTERIOR_S**2 + 1 - abar)


def run(plan: Plan, denoiser: Any, guide: Any = None, seeds: tuple[int, ...] = (0, 1)) -> Tensor:
    return sample(plan, denoiser, shape=SHAPE, seeds=seeds, dtype=torch.float64, guide=guide)


def step(plan: Plan, row: int, out: Tensor, z: Tensor, gradient: Tensor | None) -> Tensor:
    """x' of one row from x_t = 0.8."""
    x = torch.full((1, *SHAPE), 0.8, dtype=torch.float64)
    return advance(x, 0.1 * x, out, z, torch.from_numpy(plan.table[row].copy())[None], gradient)[0]


@pytest.mark.parametrize(
    ("prediction", "arguments"),
    [
        ("eps", {"sampler": "ddim"}),
        ("x0", {"sampler": "ddim", "eta": 0.6}),
        ("v", {"sampler": "ddim", "clipping": Clipping("none", keep_eps=True), "eta": 0.6}),
        ("x0", {"sampler": "dpmpp", "spacing": "trailing"}),
        ("eps", {"sampler": "euler", "spacing": "karras"}),
        ("v", {"sampler": "heun", "spacing": "karras"}),
        ("eps", {"sampler": "heun", "spacing": "leading", "steps": 20}),
    ],
    ids=str,
)
def test_guidance_of_scale_1_is_the_conditional_model(arguments: dict[str, Any], prediction: Any) -> None:
    """eps - sqrt(1 - abar) gradient is the best eps of p(x0 | y) (Dhariwal & Nichol 2021, eq. 14): whole runs."""
    arguments = {"steps": 19, "clip": "none", **arguments}
    guided = make_plan(LINEAR, classifier_scale=1.0, prediction=prediction, **arguments)
    image = run(guided, GaussianDenoiser(s=S, prediction=prediction), guide)
    # Between timesteps both know abar only to the float32 of t.
    tolerance = 1e-5 if arguments.get("spacing") == "karras" else 1e-9
    assert torch.allclose(image, run(make_plan(LINEAR, **arguments), conditional), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("scale", "keep_eps"), [(0.5, False), (4.0, True)])
def test_ddim_shifts_eps_and_derives_x0_again(scale: float, keep_eps: bool) -> None:
    """Dhariwal & Nichol 2021, algorithm 2, after clipping: guided-diffusion's order, so that x0 may leave its range."""
    plan = make_plan(LINEAR, steps=50, classifier_scale=scale, clipping=Clipping(keep_eps=keep_eps))
    out, gradient = torch.randn((2, 1, *SHAPE), generator=torch.Generator().manual_seed(0)).double()
    for row in (0, 10, 49):
        abar, abar_next = [*abar_at(LINEAR, plan.timesteps), 1.0][row : row + 2]
        x0 = ((0.8 - (1 - abar) ** 0.5 * out) / abar**0.5).clamp(-1, 1)
        eps = out if keep_eps else (0.8 - abar**0.5 * x0) / (1 - abar) ** 0.5
        eps = eps - scale * (1 - abar) ** 0.5 * gradient
        x0 = x0 + scale * (1 - abar) / abar**0.5 * gradient  # what that eps makes of x_t
        expected = abar_next**0.5 * x0 + (1 - abar_next) ** 0.5 * eps
        assert torch.allclose(step(plan, row, out, torch.zeros_like(out), gradient), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("scale", "variance"), [(1.0, "fixed_small"), (3.0, "learned_range"), (1.0, "learned"), (3.0, "fixed_large")]
)
def test_ancestral_sampling_shifts_its_mean(scale: float, variance: Variance) -> None:
    """By scale * variance * gradient (Dhariwal & Nichol 2021, algorithm 1); each pixel's own, where it is learned."""
    plan = make_plan(LINEAR, sampler="ddpm", steps=500, variance=variance, classifier_scale=scale)
    out, learned, gradient = torch.randn((3, 1, *SHAPE), generator=torch.Generator().manual_seed(0)).double()
    if variance.startswith("learned"):
        out = torch.cat([out, learned], dim=1)
    zero, one = torch.zeros_like(gradient), torch.ones_like(gradient)
    for row in (0, 250, 498):
        plain = step(plan, row, out, zero, None)
        deviation = step(plan, row, out, one, None) - plain
        shift = step(plan, row, out, zero, gradient) - plain
        assert torch.allclose(shift, scale * deviation**2 * gradient, rtol=1e-7, atol=1e-12)
        assert bool(deviation.std() > 1e-9) is variance.startswith("learned")


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
def test_the_last_step_shifts_and_draws_nothing(variance: Variance) -> None:
    """The posterior variance is 0 there; the shift takes that of t = 1, as guided-diffusion but for fixed_small."""
    plan = make_plan(LINEAR, sampler="ddpm", steps=1000, variance=variance, classifier_scale=2.0)
    gradient = torch.linspace(-1, 1, 105, dtype=torch.float64).view(1, *SHAPE)
    for v, shift in ((-1.0, 5.453187661e-5), (1.0, 1e-4 if variance == "learned_range" else 5.453187661e-5)):
        out = torch.cat([0 * gradient, torch.full_like(gradient, v)], dim=1)
        plain = step(plan, 999, out, 0 * gradient, None)
        guided = step(plan, 999, out, torch.ones_like(gradient), gradient)
        assert torch.allclose(guided - plain, 2.0 * shift * gradient, rtol=1e-8, atol=1e-12)


def test_ancestral_guidance_of_scale_1_samples_the_posterior() -> None:
    """Mean and spread of p(x0 | y), in a recursion of both; what 1000 steps miss is of first order in beta."""
    plan = make_plan(LINEAR, sampler="ddpm", steps=1000, clip="none", classifier_scale=1.0)
    mean, variance = 0.0, 1.0
    oracle = GaussianDenoiser(s=S)
    for row, t in zip(plan.table, plan.timesteps, strict=True):
        # A step is affine in x_t: its values at 0 and 1 say all.
        ends, time = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1), torch.tensor([t, t])
        x0 = row[Column.X0_X] * ends + row[Column.X0_OUT] * oracle(ends, time) + row[Column.G] * guide(ends, time)
        offset, at_one = (row[Column.A] * ends + row[Column.B] * x0).flatten().tolist()
        mean = offset + (at_one - offset) * mean
        variance = (at_one - offset) ** 2 * variance + row[Column.S] ** 2
    assert (mean, variance**0.5) == pytest.approx((POSTERIOR_MEAN, POSTERIOR_S), abs=0.01)


def test_where_nothing_is_left_a_classifier_has_nothing_to_say() -> None:
    """At abar = 0 the deterministic samplers' weight, (1 - abar) / sqrt(abar), does not exist.

    At the end of the cosine schedule abar is 2.4e-9, and the weight would make 20,000 of any error of the gradient.
    """
    schedules = (LINEAR.rescale_zero_terminal_snr(), NoiseSchedule.cosine(1000))
    for schedule, sampler in itertools.product(schedules, ("ddim", "dpmpp", "euler", "unipc")):
        if sampler == "unipc" and not schedule.alphas_cumprod[-1]:
            continue  # it cannot begin there at all
        arguments: dict[str, Any] = {"sampler": sampler, "spacing": "trailing", "steps": 10, "prediction": "v"}
        weights = make_plan(schedule, classifier_scale=1.0, **arguments).table[:, Column.G]
        assert weights[0] == 0
        assert (weights[1:] > 0).all()
        assert weights.max() < 1000
