"""The same network, seed and sampler give the same picture as diffusers: whole trajectories, not single steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model import NoiseSchedule, make_plan, sample, sample_steps
from model.rng import draw_noise, image_generator

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.usefixtures("one_thread")

LINEAR = NoiseSchedule.linear(1000)
SHAPE, SEEDS = (3, 8, 8), [7, 8, 1234]
TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class RandomNetwork(nn.Module):
    """Two fixed convolutions that hear of t. Of the size of noise, so that clipping has work and not only work."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner, self.outer = (torch.randn(size, generator=generator) / 6 for size in ((8, 3, 3, 3), (3, 8, 3, 3)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.conv2d(x, self.inner, padding=1) + (t.view(-1, 1, 1, 1) / 200).sin()
        return torch.conv2d(h.tanh(), self.outer, padding=1)


NETWORK = RandomNetwork()


def theirs(scheduler: Any, steps: int, **arguments: Any) -> list[Tensor]:
    """x after each step, as diffusers' pipelines loop: one generator per image, for x_T and for every step."""
    generators = [image_generator(seed) for seed in SEEDS]
    x = diffusers.utils.torch_utils.randn_tensor((len(SEEDS), *SHAPE), generator=generators)
    scheduler.set_timesteps(steps)
    states = []
    for t in scheduler.timesteps:
        out = NETWORK(x, t.expand(len(SEEDS)))
        x = scheduler.step(out, t, x, generator=generators, **arguments).prev_sample
        states.append(x)
    return states


def ours(**arguments: Any) -> list[Tensor]:
    plan = make_plan(LINEAR, **arguments)
    return [x for _, x, _ in sample_steps(plan, NETWORK, shape=SHAPE, seeds=SEEDS)]


def assert_same_trajectory(mine: list[Tensor], reference: list[Tensor]) -> None:
    assert len(mine) == len(reference)
    for x, y in zip(mine, reference, strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-4)


def test_noise_is_that_of_a_list_of_generators() -> None:
    reference = diffusers.utils.torch_utils.randn_tensor(
        (3, *SHAPE), generator=[torch.Generator().manual_seed(seed) for seed in SEEDS]
    )
    assert torch.equal(draw_noise([image_generator(seed) for seed in SEEDS], SHAPE), reference)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [10, 50])
def test_ddpm(steps: int, spacing: str) -> None:
    scheduler = diffusers.DDPMScheduler(1000, timestep_spacing=spacing)  # fixed_small and clip_sample
    mine = ours(sampler="ddpm", steps=steps, spacing=spacing)
    assert_same_trajectory(mine, theirs(scheduler, steps))


def test_ddpm_all_steps() -> None:
    mine = ours(sampler="ddpm", steps=1000)
    assert_same_trajectory(mine, theirs(diffusers.DDPMScheduler(1000), 1000))


def test_ddpm_fixed_large() -> None:
    scheduler = diffusers.DDPMScheduler(1000, variance_type="fixed_large")
    mine = ours(sampler="ddpm", variance="fixed_large", steps=500)
    assert_same_trajectory(mine, theirs(scheduler, 500))


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_ddpm_predictions(prediction: str) -> None:
    scheduler = diffusers.DDPMScheduler(1000, prediction_type=TYPES[prediction])
    mine = ours(sampler="ddpm", steps=20, prediction=prediction)
    assert_same_trajectory(mine, theirs(scheduler, 20))


# Not linspace: diffusers' DDIM takes t - T // steps for the timestep before, which is not in that list (#11347).
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [10, 50])
def test_ddim(steps: int, eta: float, spacing: str) -> None:
    """With eps derived again from the clipped x0, as guided-diffusion does."""
    scheduler = diffusers.DDIMScheduler(1000, timestep_spacing=spacing)
    mine = ours(sampler="ddim", steps=steps, spacing=spacing, eta=eta)
    assert_same_trajectory(mine, theirs(scheduler, steps, eta=eta, use_clipped_model_output=True))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_ddim_predictions(prediction: str) -> None:
    scheduler = diffusers.DDIMScheduler(1000, prediction_type=TYPES[prediction])
    mine = ours(sampler="ddim", steps=20, prediction=prediction)
    assert_same_trajectory(mine, theirs(scheduler, 20, use_clipped_model_output=True))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("steps", [10, 25])
def test_dpmpp(steps: int) -> None:
    """Thresholding with a largest value of 1 is diffusers' way to say clip here."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        1000, beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", thresholding=True, sample_max_value=1.0
    )
    mine = ours(sampler="dpmpp", steps=steps, spacing="trailing")
    assert_same_trajectory(mine, theirs(scheduler, steps))


def test_the_cosine_schedule() -> None:
    scheduler = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    plan = make_plan(NoiseSchedule.cosine(1000), sampler="ddpm", steps=100)
    mine = sample(plan, NETWORK, shape=SHAPE, seeds=SEEDS)
    assert torch.allclose(mine, theirs(scheduler, 100)[-1], rtol=0, atol=1e-4)
