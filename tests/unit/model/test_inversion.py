"""The probability flow backwards: from a picture to its noise, and back to the picture."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule, PlanError
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.inversion import FIRST_SIGMA, Inversion, make_inversion
from difuso.model.plans.spacing import KARRAS_SIGMA_MAX
from tests.oracle import LINEAR, GaussianDenoiser, abar_at, follow
from tests.trajectories import assert_same_trajectory, steps_of

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 5, 7)
IMAGE = torch.linspace(-1, 1, 105, dtype=torch.float64).view(1, *SHAPE)
NOISE = draw_noise([image_generator(5)], SHAPE).double()
COSINE = NoiseSchedule.cosine(1000)


def entered(inversion: Inversion) -> Tensor:
    return inversion.signal * IMAGE + inversion.spread * NOISE


def flowed(inversion: Inversion, s: float, top: float) -> float:
    """What the flow makes of x = 1 from the first level to a sigma: y / sqrt(s^2 + sigma^2) stays the same."""

    def length(abar: float) -> float:
        return math.sqrt(abar * s * s + 1 - abar)

    return length(1 / (1 + top**2)) / length(inversion.signal**2)


@pytest.mark.parametrize(("schedule", "steps", "start"), [(LINEAR, 2, None), (COSINE, 50, None), (LINEAR, 7, 400)])
def test_its_levels_are_those_of_karras_from_a_little_noise_on(
    schedule: NoiseSchedule, steps: int, start: int | None
) -> None:
    inversion = make_inversion(schedule, steps=steps, start=start)
    assert len(inversion.plan) == len(inversion.plan.table) == steps - 1
    sigmas = np.sqrt(1 / abar_at(schedule, np.array(inversion.plan.timesteps, float)) - 1)
    top = min(schedule.sigmas[999], KARRAS_SIGMA_MAX) if start is None else schedule.sigmas[start]
    grid = np.linspace(FIRST_SIGMA ** (1 / 7), top ** (1 / 7), steps) ** 7
    assert sigmas == pytest.approx(grid[:-1], rel=1e-9)
    assert inversion.spread / inversion.signal == pytest.approx(FIRST_SIGMA)
    assert inversion.spread**2 + inversion.signal**2 == pytest.approx(1)


@pytest.mark.parametrize(
    ("prediction", "arguments"), [("eps", {"steps": 9}), ("x0", {"steps": 8, "start": 300}), ("v", {"steps": 9})]
)
def test_the_true_noise_leads_to_the_true_x_t(arguments: dict[str, Any], prediction: Any) -> None:
    """If the network finds the noise that was added, each x has just this noise at its level."""

    def knowing(x_t: Tensor, t: Tensor) -> Tensor:
        abar = torch.from_numpy(abar_at(LINEAR, t.numpy())).view(-1, 1, 1, 1)
        x0 = (x_t - (1 - abar).sqrt() * NOISE) / abar.sqrt()
        return {"eps": NOISE, "x0": x0, "v": abar.sqrt() * NOISE - (1 - abar).sqrt() * x0}[prediction]

    inversion = make_inversion(LINEAR, prediction=prediction, **arguments)
    start = entered(inversion)
    steps = steps_of(inversion.plan, knowing, shape=SHAPE, seeds=[0], dtype=torch.float64, noise=start)
    for _, x, x0 in steps:  # noqa: B007 - the last x is compared below
        assert torch.allclose(x0, IMAGE, rtol=0, atol=1e-5)  # t is float32
    abar = LINEAR.alphas_cumprod[arguments.get("start", 999)]
    assert torch.allclose(x, math.sqrt(abar) * IMAGE + math.sqrt(1 - abar) * NOISE, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("schedule", "s"), [(LINEAR, 0.2), (COSINE, 0.5)], ids=["linear", "cosine"])
def test_it_follows_the_flow_with_an_error_of_second_order(schedule: NoiseSchedule, s: float) -> None:
    """Twice the steps, a quarter of the error."""
    top = min(schedule.sigmas[999], KARRAS_SIGMA_MAX)
    errors = []
    for steps in (50, 100, 200):
        inversion = make_inversion(schedule, steps=steps)
        errors.append(abs(follow(inversion.plan, s, schedule).multiplier / flowed(inversion, s, top) - 1))
    assert errors[0] < 0.008
    assert [coarse / fine for coarse, fine in itertools.pairwise(errors)] == pytest.approx([4, 4], abs=0.2)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"steps": 1}, "steps must lie between 2 and 1000 to invert an image, got 1"),
        ({"steps": 11, "start": 9}, "steps must lie between 2 and 10 to invert an image, got 11"),
        ({"start": 1000}, "start must lie between 0 and 999, got 1000"),
        ({"start": 0}, "start must be a timestep above the first, got 0"),
        ({"prediction": "noise"}, "prediction 'noise': choose eps, x0, v or flow"),
    ],
)
def test_an_impossible_inversion_is_refused(flaw: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_inversion(LINEAR, **({"steps": 10} | flaw))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, in diffusers
def test_diffusers_inverts_alike() -> None:
    """With its inverse multistep solver of the same order, on the same levels."""
    diffusers = pytest.importorskip("diffusers")
    inversion, network = make_inversion(LINEAR, steps=12), GaussianDenoiser()
    scheduler = diffusers.DPMSolverMultistepInverseScheduler(
        1000, algorithm_type="dpmsolver++", solver_order=2, lower_order_final=False, euler_at_final=False
    )
    scheduler.set_timesteps(12)
    t = np.array(inversion.plan.timesteps)
    sigmas = np.sqrt(1 / abar_at(LINEAR, t) - 1)
    scheduler.timesteps = torch.from_numpy(t)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, min(LINEAR.sigmas[999], KARRAS_SIGMA_MAX)))
    theirs = start = entered(inversion)
    mine = steps_of(inversion.plan, network, shape=SHAPE, seeds=[0], dtype=torch.float64, noise=start)
    for index, (at, x, _) in enumerate(mine):
        scheduler._step_index = index
        theirs = scheduler.step(network(theirs, torch.tensor([at], dtype=torch.float32)), at, theirs).prev_sample
        assert_same_trajectory([x.float()], [theirs.float()])
