"""The loop makes as many network calls as asked, agrees with closed forms, and a picture depends on its seed alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule, Plan, make_plan, sample
from difuso.model.errors import PlanError
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.plan import Prediction
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.spacing import EXPONENTIAL, KARRAS, SPACINGS
from difuso.model.sampling import Denoiser
from tests.oracle import LINEAR, GaussianDenoiser, abar_at
from tests.trajectories import steps_of

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

PIXEL = (1, 1, 1)
SHAPE = (3, 5, 7)
GRIDS = [*SPACINGS, EXPONENTIAL, KARRAS]

# Stochastic and deterministic, of several lengths and starts.
MIX: list[dict[str, Any]] = [
    {"sampler": "ddpm", "steps": 9, "spacing": "linspace"},
    {"sampler": "ddpm", "steps": 6, "spacing": "leading"},
    {"sampler": "ddim", "steps": 12, "spacing": "trailing"},
    {"sampler": "ddim", "steps": 5, "eta": 0.5, "clip": "none"},
    {"sampler": "ddim", "steps": 1, "spacing": "trailing"},
    {"sampler": "dpmpp", "steps": 8, "spacing": "trailing"},
    {"sampler": "dpmpp", "steps": 3, "start": 400},
    {"sampler": "dpmpp_3m", "steps": 8, "spacing": "trailing"},
    {"sampler": "unipc", "steps": 8, "spacing": "karras"},
    {"sampler": "euler", "steps": 6, "spacing": "karras"},
    {"sampler": "heun", "steps": 9, "spacing": "karras"},
    {"sampler": "heun", "steps": 8, "spacing": "quad"},
]


class Recorder:
    """A network that only remembers when it was called."""

    def __init__(self) -> None:
        self.times: list[Tensor] = []

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.times.append(t)
        return x_t


def knowing(x0: Tensor, prediction: Prediction = "eps") -> Denoiser:
    """A denoiser that knows the image and so finds the noise that is really in x_t."""

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        abar = torch.from_numpy(abar_at(LINEAR, t.numpy())).view(-1, 1, 1, 1).to(x_t)
        eps = (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()
        return {"eps": eps, "x0": x0.expand_as(x_t), "v": abar.sqrt() * eps - (1 - abar).sqrt() * x0}[prediction]

    return denoiser


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_is_the_number_of_network_calls(sampler: str) -> None:
    schedule = NoiseSchedule.geometric(100, sigma_max=50.0)  # of which every sampler may take all timesteps
    for steps, spacing in itertools.product((1, 2, 3, 30, 99, 100), GRIDS):
        plan, recorder = make_plan(schedule, sampler=sampler, spacing=spacing, steps=steps), Recorder()
        sample(plan, recorder, shape=PIXEL, seeds=[0])
        assert len(recorder.times) == steps
        assert torch.equal(torch.cat(recorder.times), torch.tensor(plan.timesteps))


@pytest.mark.parametrize(
    ("spacing", "dtype"),
    [(EXPONENTIAL, torch.float32), (KARRAS, torch.float32), *((name, torch.int64) for name in SPACINGS)],
)
def test_times_are_whole_numbers_but_on_a_karras_grid(spacing: str, dtype: torch.dtype) -> None:
    """Where a network was trained, it gets the time as in training."""
    recorder = Recorder()
    sample(make_plan(LINEAR, steps=3, spacing=spacing), recorder, shape=PIXEL, seeds=[0])
    assert {t.dtype for t in recorder.times} == {dtype}


@pytest.mark.parametrize(("arguments", "prediction"), [*zip(MIX, itertools.cycle(["eps", "x0", "v"]), strict=False)])
def test_the_true_noise_leads_to_the_image(arguments: dict[str, Any], prediction: Prediction) -> None:
    """From any start, by any sampler and prediction type."""
    x0 = torch.linspace(-1, 1, 105, dtype=torch.float64).view(1, *SHAPE)
    plan = make_plan(LINEAR, prediction=prediction, **arguments)
    image = sample(plan, knowing(x0, prediction), shape=SHAPE, seeds=[4], dtype=torch.float64)
    assert (image - x0).abs().max() <= 1e-6


@pytest.mark.parametrize("arguments", MIX, ids=str)
def test_prediction_types_agree(arguments: dict[str, Any]) -> None:
    """One denoiser, asked for eps, x0 and v, gives one picture, clipped or not."""
    gaussian = GaussianDenoiser()

    def asked_for(prediction: Prediction) -> Denoiser:
        def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
            abar = torch.from_numpy(abar_at(LINEAR, t.numpy())).view(-1, 1, 1, 1)
            eps = gaussian(x_t, t)
            x0 = (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()
            return knowing(x0, prediction)(x_t, t)

        return denoiser

    def run(prediction: Prediction) -> Tensor:
        plan = make_plan(LINEAR, prediction=prediction, **arguments)
        return sample(plan, asked_for(prediction), shape=SHAPE, seeds=[0, 1], dtype=torch.float64)

    assert torch.allclose(run("x0"), run("eps"), atol=1e-9)
    assert torch.allclose(run("v"), run("eps"), atol=1e-9)


@pytest.mark.parametrize(("clip", "brightest"), [("static", 1.0), ("none", 3.0)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clip_bounds_the_predicted_image(sampler: str, clip: str, brightest: float) -> None:
    plan = make_plan(LINEAR, sampler=sampler, steps=4, prediction="x0", clip=clip)
    predicted = [x0 for _, _, x0 in steps_of(plan, lambda x, t: x * 0 + 3, shape=PIXEL, seeds=[0])]
    assert [float(x0) for x0 in predicted] == [brightest] * 4


def test_a_run_shows_the_way() -> None:
    plan = make_plan(LINEAR, sampler="ddpm", steps=6)
    steps = steps_of(plan, GaussianDenoiser(), shape=SHAPE, seeds=[5])
    assert tuple(t for t, _, _ in steps) == plan.timesteps
    assert torch.equal(steps[-1][1], sample(plan, GaussianDenoiser(), shape=SHAPE, seeds=[5]))
    assert torch.equal(steps[-1][1], steps[-1][2])  # the last x is the last predicted image


def test_a_start_takes_the_first_draw_all_the_same() -> None:
    """The noise of a start is the first draw of its seed, so no later step repeats it."""
    plan = make_plan(LINEAR, sampler="ddpm", steps=5, start=600)
    noise = draw_noise([image_generator(1), image_generator(2)], SHAPE)
    started = sample(plan, GaussianDenoiser(), shape=SHAPE, seeds=[1, 2], noise=noise)
    assert torch.equal(started, sample(plan, GaussianDenoiser(), shape=SHAPE, seeds=[1, 2]))


def test_the_noise_of_a_run_is_returned_and_draws_it_again() -> None:
    plan = make_plan(LINEAR, sampler="ddpm", steps=5)
    images, noise = sample(plan, GaussianDenoiser(), shape=SHAPE, seeds=[1, 2], return_noise=True)
    assert torch.equal(noise, draw_noise([image_generator(1), image_generator(2)], SHAPE))
    assert torch.equal(images, sample(plan, GaussianDenoiser(), shape=SHAPE, seeds=[1, 2], noise=noise))
    assert not torch.equal(images, sample(plan, GaussianDenoiser(), shape=SHAPE, seeds=[1, 2], noise=noise.flip(0)))
    with pytest.raises(PlanError, match=r"noise must have the shape \(2, .*, got \(1, "):
        sample(plan, GaussianDenoiser(), shape=SHAPE, seeds=[1, 2], noise=noise[:1])


def test_sampling_leaves_no_trace() -> None:
    """Global random state, noise and plan stay as they were; what comes back carries no graph."""
    plan: Plan = make_plan(LINEAR, sampler="ddpm", steps=3, start=500)
    noise, weight = torch.ones(1, *SHAPE), torch.ones((), requires_grad=True)
    state, table = torch.get_rng_state(), plan.table.copy()
    image = sample(plan, lambda x, t: weight * x, shape=SHAPE, seeds=[0], noise=noise)
    assert torch.equal(torch.get_rng_state(), state)
    assert (noise == 1).all()
    assert (plan.table == table).all()
    assert not image.requires_grad
