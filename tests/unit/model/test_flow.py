"""Flow matching: its schedule, what its networks are called with, and runs, which are those of diffusers."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from difuso.model import make_plan, sample
from difuso.model.networks.preconditioned import denoiser_of
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.inversion import FIRST_SIGMA, make_inversion
from difuso.model.plans.plan import Plan
from difuso.model.plans.prediction import Prediction, eps_from_output, x0_from_output
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.schedule import Flow
from difuso.model.plans.schedule_config import ScheduleConfig
from difuso.model.plans.spacing import KARRAS_SIGMA_MAX
from tests.oracle import follow
from tests.rounding import assert_rounded_alike
from tests.trajectories import NETWORK, SEEDS, ours, theirs

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

FLOW, SHIFTED = Flow.of(1000), Flow.of(1000, shift=3.0)
SCHEDULES = pytest.mark.parametrize("schedule", [FLOW, SHIFTED], ids=["flow", "shifted"])
S = 0.4  # standard deviation of the images


class StraightNetwork(nn.Module):
    """The exact velocity of images N(0, S^2): of y = (1 - s) x0 + s eps, from y and the time 1000 s."""

    def forward(self, y: Tensor, time: Tensor) -> Tensor:
        s = (time / 1000).to(y).view(-1, 1, 1, 1)
        return (s - (1 - s) * S**2) / ((1 - s) ** 2 * S**2 + s**2) * y


def scales(schedule: Flow, timesteps: tuple[float, ...]) -> list[float]:
    """What x_t is multiplied by to be y, at timesteps and at the image."""
    s = np.append(schedule.time_at(np.array(timesteps)), 0.0)
    return [float(scale) for scale in np.sqrt((1 - s) ** 2 + s**2)]


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.42])
def test_its_noise_is_that_of_the_straight_path(shift: float) -> None:
    """sigma is s / (1 - s), which a shift multiplies (Esser et al. 2024, eq. 23)."""
    schedule, u = Flow.of(10, shift), np.arange(1, 10) / 10
    assert schedule.sigma_at(np.array([9.0])) == np.inf
    assert schedule.time_at(torch.tensor([9.0])) == 1
    assert np.allclose(schedule.sigmas[:-1], shift * u / (1 - u), rtol=1e-12)
    assert schedule.sigmas[-1] == np.inf
    assert schedule.alphas_cumprod[-1] == 0
    between = np.array([0.0, 0.5, 7.25, 8.999, 9.0])
    assert np.allclose(schedule.timestep_at(schedule.sigma_at(between)), between, rtol=1e-12, atol=1e-12)
    assert np.allclose(schedule.sigma_at(np.arange(9.0)), schedule.sigmas[:-1], rtol=1e-12)


def test_a_config_names_it() -> None:
    schedule = ScheduleConfig("flow", 50, shift=2.0).build()
    assert isinstance(schedule, Flow)
    assert np.array_equal(schedule.betas, Flow.of(50, 2.0).betas)
    with pytest.raises(ValueError, match="a cosine schedule has no shift: leave out shift"):
        ScheduleConfig("cosine", shift=2.0).build()
    with pytest.raises(ValueError, match="leave out zero_terminal_snr"):
        ScheduleConfig("flow", zero_terminal_snr=True).build()


@SCHEDULES
def test_image_and_noise_follow_from_the_velocity(schedule: Flow) -> None:
    """x0 = y - s flow, eps = y + (1 - s) flow."""
    x0, eps = torch.randn((2, 100), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0, 10, 500, 998, 999):
        s, abar = float(schedule.time_at(t)), float(schedule.alphas_cumprod[t])
        x_t = ((1 - s) * x0 + s * eps) / scales(schedule, (t,))[0]
        assert torch.allclose(x_t, abar**0.5 * x0 + (1 - abar) ** 0.5 * eps, atol=1e-12)
        for quantity, (p, q) in ((x0, x0_from_output("flow", abar)), (eps, eps_from_output("flow", abar))):
            assert torch.allclose(p * x_t + q * (eps - x0), quantity, atol=1e-12)


@SCHEDULES
def test_the_network_is_called_on_the_path_and_with_its_time(schedule: Flow) -> None:
    given: list[tuple[Tensor, ...]] = []

    class Recorder(nn.Module):
        def forward(self, y: Tensor, time: Tensor, labels: Tensor) -> Tensor:
            given.append((y, time, labels))
            return torch.cat([y, 2 * y], dim=1)

    t, labels = torch.tensor([0.0, 12.25, 999.0]), torch.arange(3)
    x_t = torch.randn((3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    out = denoiser_of(Recorder(), None, schedule)(x_t, t, labels=labels)
    ((y, time, inputs),) = given
    assert torch.allclose(time.double(), 1000 * schedule.time_at(t.double()), rtol=1e-6)
    scale = torch.tensor(scales(schedule, tuple(t.tolist()))[:-1]).view(-1, 1, 1, 1)
    assert torch.allclose(y, scale * x_t, rtol=1e-6)
    assert torch.equal(out, torch.cat([y, 2 * y], dim=1))
    assert inputs is labels


def on_the_path(plan: Plan, schedule: Flow) -> list[Tensor]:
    """y after each step."""
    states = ours(plan, denoiser_of(NETWORK, None, schedule))
    return [scale * x for scale, x in zip(scales(schedule, plan.timesteps)[1:], states, strict=True)]


@pytest.mark.parametrize(
    ("steps", "shift", "sampler"), [(1, 1.0, "euler"), (10, 3.0, "ddim"), (10, 1.0, "euler"), (28, 3.0, "euler")]
)
def test_whole_runs_are_those_of_diffusers(steps: int, shift: float, sampler: str) -> None:
    """On the scheduler's own list, and on the one of pipelines that begin at 1 and leave out 0."""
    diffusers = pytest.importorskip("diffusers")
    scheduler, schedule = diffusers.FlowMatchEulerDiscreteScheduler(1000, shift=shift), Flow.of(1000, shift)
    last = shift / (1 + (shift - 1) / 1000) - 1
    own = np.linspace(last, 999, steps) if steps > 1 else [999]
    listed = "at:" + ",".join(f"{t:.6f}" for t in own)
    plan = make_plan(schedule, sampler=sampler, steps=steps, spacing=listed, prediction="flow", clip="none")
    reference = theirs(scheduler, steps)
    for mine, other in zip(on_the_path(plan, schedule), reference, strict=True):
        assert_rounded_alike(mine, other, steps=10 * steps, largest=4.0)
    if 1000 % steps == 0:
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
        y = draw_noise([image_generator(seed) for seed in SEEDS], (3, 8, 8))
        for t in scheduler.timesteps:
            y = scheduler.step(NETWORK(y, t.expand(len(SEEDS))), t, y).prev_sample
        plan = make_plan(schedule, sampler=sampler, steps=steps, spacing="trailing", prediction="flow", clip="none")
        assert_rounded_alike(on_the_path(plan, schedule)[-1], y, steps=10 * steps, largest=4.0)


def outcome(schedule: Flow, sampler: str, steps: int, prediction: Prediction = "flow") -> float:
    """The factor of x_T with which a run for images N(0, S^2) ends, or the deviation of what it draws."""
    spacing = SAMPLERS[sampler].spacing or "trailing"
    plan = make_plan(schedule, sampler=sampler, steps=steps, spacing=spacing, prediction=prediction, clip="none")
    first = plan.timesteps[0]
    assert (
        first == 999 if spacing != "karras" else schedule.sigma_at(np.array(first)) == pytest.approx(KARRAS_SIGMA_MAX)
    )
    end = follow(plan, S, schedule, prediction)
    return end.std if plan.stochastic else end.multiplier


@pytest.mark.parametrize("sampler", sorted(SAMPLERS.keys() - {"lcm"}))  # which is for networks that predict images
def test_every_sampler_ends_at_the_spread_of_the_images(sampler: str) -> None:
    """From pure noise to N(0, S^2), extrapolated from 200 and 400 steps, as an error of first order halves."""
    coarse, fine = (outcome(SHIFTED, sampler, steps) for steps in (200, 400))
    assert 2 * fine - coarse == pytest.approx(S, rel=0.01)


def test_inversion_leads_to_noise_from_which_the_image_is_drawn() -> None:
    denoiser, shape = denoiser_of(StraightNetwork(), None, FLOW), (1, 4, 4)
    images = S * torch.randn((4, *shape), generator=torch.Generator().manual_seed(1))
    inversion = make_inversion(FLOW, steps=200, prediction="flow")
    weak = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    start = inversion.signal * images + inversion.spread * weak
    noise = sample(inversion.plan, denoiser, shape=shape, seeds=range(4), noise=start)
    assert 0.7 < noise.std() < 1.3
    back = make_plan(FLOW, sampler="dpmpp", steps=200, spacing="karras", prediction="flow", clip="none")
    assert (sample(back, denoiser, shape=shape, seeds=range(4), noise=noise) - images).std() < FIRST_SIGMA
