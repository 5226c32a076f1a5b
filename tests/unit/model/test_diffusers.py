"""The same network, seed and sampler give the same picture as diffusers: whole trajectories, not single steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from difuso.model import make_plan
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.plan import Prediction
from tests.oracle import LINEAR, with_slope_weight
from tests.trajectories import (
    PREDICTION_TYPES,
    SEEDS,
    SHAPE,
    WITH_VARIANCE,
    assert_same_trajectory,
    ours,
    theirs,
)

diffusers = pytest.importorskip("diffusers")
pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

# What keeps x0 in range, in our words and in diffusers'. The network's x0 lies far beyond [-1, 1], so each has work.
THRESHOLD = {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 3.0}
DYNAMIC = Clipping("dynamic", 3.0, 0.9)


def test_noise_is_that_of_a_list_of_generators() -> None:
    reference = diffusers.utils.torch_utils.randn_tensor(
        (3, *SHAPE), generator=[torch.Generator().manual_seed(seed) for seed in SEEDS]
    )
    assert torch.equal(draw_noise([image_generator(seed) for seed in SEEDS], SHAPE), reference)


@pytest.mark.parametrize(("steps", "spacing"), [(10, "linspace"), (50, "leading"), (10, "trailing")])
def test_ddpm(steps: int, spacing: str) -> None:
    scheduler = diffusers.DDPMScheduler(1000, timestep_spacing=spacing)  # fixed_small and clip_sample
    plan = make_plan(LINEAR, sampler="ddpm", steps=steps, spacing=spacing)
    assert_same_trajectory(ours(plan), theirs(scheduler, steps))


@pytest.mark.slow
def test_ddpm_all_steps() -> None:
    plan = make_plan(LINEAR, sampler="ddpm", steps=1000)
    assert_same_trajectory(ours(plan), theirs(diffusers.DDPMScheduler(1000), 1000))


def test_ddpm_fixed_large() -> None:
    scheduler = diffusers.DDPMScheduler(1000, variance_type="fixed_large")
    plan = make_plan(LINEAR, sampler="ddpm", variance="fixed_large", steps=500)
    assert_same_trajectory(ours(plan), theirs(scheduler, 500))


# Lists that end at 0: where they do not, diffusers still draws at its last step, from a posterior variance of 1e-20.
# And no coarser ones: before 0, a wide deviation would show that its float32 1 - abar has but three digits there.
@pytest.mark.parametrize(("steps", "spacing", "clip"), [(25, "leading", Clipping()), (50, "linspace", DYNAMIC)])
def test_ddpm_learned_range(steps: int, spacing: str, clip: Clipping) -> None:
    """A network of six channels, half of them for the variance."""
    scheduler = diffusers.DDPMScheduler(
        1000, variance_type="learned_range", timestep_spacing=spacing, **(THRESHOLD if clip is DYNAMIC else {})
    )
    plan = make_plan(LINEAR, sampler="ddpm", variance="learned_range", steps=steps, spacing=spacing, clipping=clip)
    assert_same_trajectory(ours(plan, WITH_VARIANCE), theirs(scheduler, steps, WITH_VARIANCE))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_ddpm_dynamic_thresholding(prediction: Prediction) -> None:
    scheduler = diffusers.DDPMScheduler(1000, prediction_type=PREDICTION_TYPES[prediction], **THRESHOLD)
    plan = make_plan(LINEAR, sampler="ddpm", steps=50, prediction=prediction, clipping=DYNAMIC)
    assert_same_trajectory(ours(plan), theirs(scheduler, 50))


# Not linspace: diffusers' DDIM takes t - T // steps for the timestep before, which is not in that list (#11347).
@pytest.mark.parametrize(
    ("steps", "eta", "spacing", "keep_eps", "prediction"),
    [
        (10, 0.0, "leading", False, "eps"),
        (50, 0.0, "trailing", True, "eps"),
        (10, 0.4, "trailing", False, "v"),
        (50, 0.4, "leading", True, "x0"),
        (10, 1.0, "leading", True, "v"),
        (50, 1.0, "trailing", False, "x0"),
    ],
)
def test_ddim(steps: int, eta: float, spacing: str, keep_eps: bool, prediction: Prediction) -> None:
    """With eps derived again from the clipped x0, as guided-diffusion does, and as the network predicted it."""
    scheduler = diffusers.DDIMScheduler(1000, timestep_spacing=spacing, prediction_type=PREDICTION_TYPES[prediction])
    clipping = Clipping(keep_eps=keep_eps)
    plan = make_plan(LINEAR, steps=steps, spacing=spacing, eta=eta, prediction=prediction, clipping=clipping)
    assert_same_trajectory(ours(plan), theirs(scheduler, steps, eta=eta, use_clipped_model_output=not keep_eps))


@pytest.mark.parametrize(("eta", "keep_eps"), [(0.0, True), (1.0, False)])
def test_ddim_dynamic_thresholding(eta: float, keep_eps: bool) -> None:
    scheduler = diffusers.DDIMScheduler(1000, **THRESHOLD)
    plan = make_plan(LINEAR, steps=50, eta=eta, clipping=Clipping("dynamic", 3.0, 0.9, keep_eps=keep_eps))
    assert_same_trajectory(ours(plan), theirs(scheduler, 50, eta=eta, use_clipped_model_output=not keep_eps))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("steps", "bound", "prediction"), [(10, 1.0, "eps"), (25, 3.0, "x0"), (10, 3.0, "v"), (25, 1.0, "v")]
)
def test_dpmpp(steps: int, bound: float, prediction: Prediction) -> None:
    """Thresholding with a largest value of 1 is diffusers' way to say clip here."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        1000,
        beta_start=1e-4,
        beta_end=0.02,
        timestep_spacing="trailing",
        prediction_type=PREDICTION_TYPES[prediction],
        **(THRESHOLD | {"sample_max_value": bound}),
    )
    clip = Clipping("dynamic", bound, 0.9)
    plan = make_plan(LINEAR, sampler="dpmpp", steps=steps, spacing="trailing", prediction=prediction, clipping=clip)
    assert_same_trajectory(ours(plan), theirs(scheduler, steps))
    if bound == 1.0:
        static = make_plan(LINEAR, sampler="dpmpp", steps=steps, spacing="trailing", prediction=prediction)
        assert_same_trajectory(ours(static), theirs(scheduler, steps))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("steps", "prediction"), [(3, "eps"), (10, "x0"), (25, "v")])
def test_dpmpp_with_noise(steps: int, prediction: Prediction) -> None:
    """With eta 1 it is what diffusers calls sde-dpmsolver++, but for the weight of the slope, which is 1/2 there."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        1000,
        beta_start=1e-4,
        beta_end=0.02,
        algorithm_type="sde-dpmsolver++",
        timestep_spacing="trailing",
        prediction_type=PREDICTION_TYPES[prediction],
        **(THRESHOLD | {"sample_max_value": 1.0}),
    )
    plan = make_plan(LINEAR, sampler="dpmpp", eta=1.0, steps=steps, spacing="trailing", prediction=prediction)
    assert_same_trajectory(ours(with_slope_weight(plan, 0.5)), theirs(scheduler, steps))


MULTISTEP = {
    "dpmpp_3m": lambda **fields: diffusers.DPMSolverMultistepScheduler(1000, solver_order=3, **fields),
    "unipc": lambda **fields: diffusers.UniPCMultistepScheduler(1000, **fields),
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("sampler", MULTISTEP)
@pytest.mark.parametrize(("steps", "prediction"), [(3, "v"), (6, "x0"), (14, "eps")])
def test_of_higher_order(sampler: str, steps: int, prediction: Prediction) -> None:
    """With more steps diffusers' scheduler of third order leaves the second order before the last step out."""
    scheduler = MULTISTEP[sampler](
        beta_start=1e-4,
        beta_end=0.02,
        timestep_spacing="trailing",
        prediction_type=PREDICTION_TYPES[prediction],
        **(THRESHOLD | {"sample_max_value": 1.0}),
    )
    plan = make_plan(LINEAR, sampler=sampler, steps=steps, spacing="trailing", prediction=prediction)
    assert_same_trajectory(ours(plan), theirs(scheduler, steps))


@pytest.mark.parametrize(("steps", "prediction", "clip"), [(10, "v", Clipping()), (50, "x0", DYNAMIC)])
def test_zero_terminal_snr(steps: int, prediction: Prediction, clip: Clipping) -> None:
    """DDPM and DDIM begin at abar = 0 there as here. (Not eta 1, where diffusers takes the root of a float32 zero.)"""
    arguments: dict[str, Any] = {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "prediction_type": PREDICTION_TYPES[prediction],
        **(THRESHOLD if clip is DYNAMIC else {}),
    }
    schedule = LINEAR.rescale_zero_terminal_snr()
    options: dict[str, Any] = {"steps": steps, "spacing": "trailing", "prediction": prediction, "clipping": clip}
    ancestral = theirs(diffusers.DDPMScheduler(1000, **arguments), steps)
    assert_same_trajectory(ours(make_plan(schedule, sampler="ddpm", **options)), ancestral)
    for eta in (0.0, 0.7):
        reference = theirs(diffusers.DDIMScheduler(1000, **arguments), steps, eta=eta, use_clipped_model_output=True)
        assert_same_trajectory(ours(make_plan(schedule, sampler="ddim", eta=eta, **options)), reference)
