"""Samplers in sigma: Heun's method as its publication writes it, and the runs of diffusers' sigma schedulers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import make_plan, sample
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.plan import Prediction
from difuso.model.plans.spacing import KARRAS, Levels, visit_levels
from difuso.model.sampling import Denoiser
from tests.oracle import LINEAR, GaussianDenoiser
from tests.trajectories import (
    NETWORK,
    PREDICTION_TYPES,
    SEEDS,
    SHAPE,
    assert_same_trajectory,
    ours,
    theirs,
    theirs_in_sigma,
)

pytestmark = [
    pytest.mark.processors,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # in diffusers
]

BETAS = {"beta_start": 1e-4, "beta_end": 0.02}


def algorithm_1(levels: Levels, steps: int, denoiser: Denoiser, clip: float, x: Tensor) -> Tensor:
    """Karras et al. 2022, algorithm 1, in their letters: y has noise sigma, D is the predicted image, d the slope.

    As many calls as fit: of an even number the first step is Euler's.
    """
    sigmas, times = [*levels.chain.sigmas[::-1], 0.0], [*levels.timesteps[::-1]]

    def predicted(y: Tensor, i: int) -> Tensor:
        dtype = torch.int64 if isinstance(times[i], int) else torch.float32
        eps = denoiser(y / (1 + sigmas[i] ** 2) ** 0.5, torch.full((len(y),), times[i], dtype=dtype))
        return torch.clamp(y - sigmas[i] * eps, -clip, clip)

    y: Tensor = x * (1 + sigmas[0] ** 2) ** 0.5
    for i in range(len(times)):
        d = (y - predicted(y, i)) / sigmas[i]
        y_next = y + (sigmas[i + 1] - sigmas[i]) * d
        if sigmas[i + 1] and not (i == 0 and steps % 2 == 0):
            d_next = (y_next - predicted(y_next, i + 1)) / sigmas[i + 1]
            y_next = y + (sigmas[i + 1] - sigmas[i]) * (d + d_next) / 2
        y = y_next
    return y


@pytest.mark.parametrize(
    ("steps", "spacing", "clip"),
    [(1, KARRAS, 1.0), (2, "linspace", np.inf), (8, "trailing", 1.0), (9, KARRAS, np.inf), (35, KARRAS, 1.0)],
)
def test_heun_is_algorithm_1(steps: int, spacing: str, clip: float) -> None:
    """A correction that only knows the two predicted images is the average of two slopes, clipped or not."""
    levels = visit_levels(LINEAR, spacing, steps // 2 + 1)
    calls: list[Tensor] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return GaussianDenoiser(s=1.0)(x_t, t) + 0.2 * (3 * x_t).sin()

    plan = make_plan(LINEAR, sampler="heun", steps=steps, spacing=spacing, clip="none" if clip == np.inf else "static")
    image = sample(plan, denoiser, shape=SHAPE, seeds=SEEDS, dtype=torch.float64)
    assert len(calls) == steps
    x = draw_noise([image_generator(seed) for seed in SEEDS], SHAPE).double()
    expected = algorithm_1(levels, steps, denoiser, clip, x)
    assert len(calls) == 2 * steps
    assert torch.allclose(image, expected, rtol=1e-9, atol=1e-9)


# Not with fewer levels: on wide steps diffusers' float32 sigmas, which decide t too, show beyond 1e-4.
@pytest.mark.parametrize(
    ("levels", "prediction", "clip"), [(18, "eps", True), (30, "x0", False), (18, "v", False), (30, "eps", False)]
)
def test_heun_of_diffusers(levels: int, prediction: Prediction, clip: bool) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.HeunDiscreteScheduler(
        1000, **BETAS, use_karras_sigmas=True, prediction_type=PREDICTION_TYPES[prediction], clip_sample=clip
    )
    plan = make_plan(
        LINEAR,
        sampler="heun",
        steps=2 * levels - 1,
        spacing=KARRAS,
        prediction=prediction,
        clip="static" if clip else "none",
    )
    assert_same_trajectory(ours(plan), theirs_in_sigma(scheduler, levels))


@pytest.mark.parametrize(
    ("steps", "prediction", "spacing"), [(10, "eps", KARRAS), (50, "v", "leading"), (10, "v", "trailing")]
)
def test_euler_of_diffusers(steps: int, prediction: Prediction, spacing: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EulerDiscreteScheduler(
        1000,
        **BETAS,
        use_karras_sigmas=spacing == KARRAS,
        timestep_spacing="linspace" if spacing == KARRAS else spacing,
        prediction_type=PREDICTION_TYPES[prediction],
    )
    plan = make_plan(LINEAR, sampler="euler", steps=steps, spacing=spacing, prediction=prediction, clip="none")
    assert_same_trajectory(ours(plan), theirs_in_sigma(scheduler, steps))


def dpmpp_of_diffusers(**arguments: Any) -> Any:
    """Clipping to [-1, 1] is thresholding with a largest value of 1 there."""
    diffusers = pytest.importorskip("diffusers")
    return diffusers.DPMSolverMultistepScheduler(1000, **BETAS, thresholding=True, sample_max_value=1.0, **arguments)


@pytest.mark.parametrize("steps", [10, 30])
def test_dpmpp_of_diffusers_on_the_karras_grid(steps: int) -> None:
    """With a network that does not look at t, which diffusers rounds here."""

    def timeless(x_t: Tensor, t: Tensor) -> Tensor:
        out: Tensor = NETWORK(x_t, torch.zeros(len(x_t)))
        return out

    plan = make_plan(LINEAR, sampler="dpmpp", steps=steps, spacing=KARRAS)
    assert_same_trajectory(ours(plan, timeless), theirs(dpmpp_of_diffusers(use_karras_sigmas=True), steps, timeless))
