"""DDIM backwards: from a picture to its noise, by the calls that DDIM makes on its way back."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model import PlanError, make_plan, sample, sample_steps
from model.forward_process import q_sample
from model.plans.inversion import make_inversion
from model.plans.plan import Column
from model.plans.spacing import KARRAS, SPACINGS
from model.rng import draw_noise, image_generator
from tests.oracle import LINEAR, GaussianDenoiser, abar_at, flow, follow
from tests.trajectories import assert_same_trajectory

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 5, 7)
GRIDS = [*SPACINGS, KARRAS]
IMAGE = torch.linspace(-1, 1, 105, dtype=torch.float64).view(1, *SHAPE)


def encode(arguments: dict[str, Any], denoiser: Any, image: Tensor = IMAGE) -> Tensor:
    plan = make_inversion(LINEAR, **arguments)
    return sample(plan, denoiser, shape=SHAPE, seeds=[0], dtype=image.dtype, x_start=image)


def decode(arguments: dict[str, Any], denoiser: Any, x_start: Tensor) -> Tensor:
    plan = make_plan(LINEAR, clip=False, **arguments)
    return sample(plan, denoiser, shape=SHAPE, seeds=[0], dtype=x_start.dtype, x_start=x_start)


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize(
    ("steps", "start"), [(1, None), (2, None), (50, None), (1000, None), (1, 0), (7, 400), (401, 400)]
)
def test_its_timesteps_are_those_of_decoding_reversed(spacing: str, steps: int, start: int | None) -> None:
    """And so it ends where the decoding begins: at T-1, or at a start of one's own."""
    arguments: dict[str, Any] = {"steps": steps, "spacing": spacing, "start": start}
    plan = make_inversion(LINEAR, **arguments)
    assert len(plan) == len(plan.table) == steps
    assert plan.timesteps == make_plan(LINEAR, **arguments).timesteps[::-1]
    assert start is None or plan.timesteps[-1] == start


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_it_neither_clips_nor_draws(prediction: Any) -> None:
    table = make_inversion(LINEAR, steps=20, prediction=prediction).table
    assert np.isfinite(np.delete(table, Column.CLIP, axis=1)).all()
    assert (table[:, Column.CLIP] == np.inf).all()
    assert not table[:, [Column.QUANTILE, Column.G, Column.C, Column.S, Column.V]].any()


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize(
    "arguments", [{"steps": 9}, {"steps": 30, "spacing": "quad"}, {"steps": 8, "start": 300}], ids=str
)
def test_the_true_noise_leads_to_the_true_x_t(arguments: dict[str, Any], prediction: Any) -> None:
    """If the network finds the noise that was drawn, each x is that of q_sample, and the picture comes back."""
    noise = draw_noise([image_generator(5)], SHAPE).double()

    def knowing(x_t: Tensor, t: Tensor) -> Tensor:
        abar = torch.from_numpy(abar_at(LINEAR, t.numpy())).view(-1, 1, 1, 1)
        # x0 as it follows from x_t and the noise, so that eps is found in any x_t.
        x0 = (x_t - (1 - abar).sqrt() * noise) / abar.sqrt()
        return {"eps": noise, "x0": x0, "v": abar.sqrt() * noise - (1 - abar).sqrt() * x0}[prediction]

    plan = make_inversion(LINEAR, prediction=prediction, **arguments)
    steps = sample_steps(plan, knowing, shape=SHAPE, seeds=[0], dtype=torch.float64, x_start=IMAGE)
    for t, x, x0 in steps:
        assert torch.allclose(x, q_sample(LINEAR, IMAGE, torch.tensor([t]), noise), rtol=0, atol=1e-9)
        assert torch.allclose(x0, IMAGE, rtol=0, atol=1e-9)
    assert torch.allclose(decode({**arguments, "prediction": prediction}, knowing, x), IMAGE, rtol=0, atol=1e-9)


def test_each_step_is_the_formula_of_ddim() -> None:
    """Song et al. 2021, eq. 12 with sigma 0, towards the noise: one number at a time, on the oracle."""
    plan = make_inversion(LINEAR, steps=25, spacing="trailing")
    x, abar = 1.0, 1.0
    for t in plan.timesteps:
        after = float(LINEAR.alphas_cumprod[int(t)])
        eps = math.sqrt(1 - after) * x / (after * 0.25 + 1 - after)  # asked at the level that the step leads to
        x0 = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)
        x, abar = math.sqrt(after) * x0 + math.sqrt(1 - after) * eps, after
    assert follow(plan, s=0.5).multiplier == pytest.approx(x, rel=1e-12)


@pytest.mark.parametrize(("steps", "golden"), [(50, 0.94644), (100, 0.97328), (250, 0.98932)])
def test_there_and_back_on_the_oracle(steps: int, golden: float) -> None:
    """Values of a first run, s = 0.5, leading: 1 - 2.7 / steps."""
    back = decode({"steps": steps}, GaussianDenoiser(), encode({"steps": steps}, GaussianDenoiser()))
    assert torch.allclose(back, golden * IMAGE, rtol=0, atol=1e-5)


@pytest.mark.parametrize("s", [0.2, 0.5])
@pytest.mark.parametrize("spacing", GRIDS)
def test_the_error_of_there_and_back_halves_with_twice_the_steps(spacing: str, s: float) -> None:
    """Of first order, as DDIM is: 1.82 to 2.02 measured. (At s = 1 that order vanishes, and the error is quartered.)

    No further than 200 steps: the step between the picture and timestep 0 is as long on every grid.
    """
    errors = []
    for steps in (50, 100, 200):
        there = follow(make_inversion(LINEAR, steps=steps, spacing=spacing), s).multiplier
        back = follow(make_plan(LINEAR, steps=steps, spacing=spacing, clip=False), s).multiplier
        errors.append(1 - there * back)
    assert [coarse / fine for coarse, fine in itertools.pairwise(errors)] == pytest.approx([2, 2], abs=0.2)


def test_encoding_reaches_the_noise_of_the_flow() -> None:
    """x_T = x_0 / 0.50000757 (section 2.9), all of 1000 steps within 1 in 700."""
    assert follow(make_inversion(LINEAR, steps=1000), s=0.5).multiplier == pytest.approx(1 / flow(0.5), rel=1.5e-3)


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", KARRAS])
def test_prediction_types_agree(spacing: str, prediction: Any) -> None:
    """One oracle, asked for eps, x0 and v. To the float32 of t where that lies between timesteps."""
    arguments = {"steps": 20, "spacing": spacing}
    eps = encode(arguments, GaussianDenoiser())
    other = encode({**arguments, "prediction": prediction}, GaussianDenoiser(prediction=prediction))
    assert torch.allclose(eps, other, rtol=0, atol=1e-4 if spacing == KARRAS else 1e-9)


def test_a_zero_terminal_snr_ends_in_pure_noise() -> None:
    """Nothing of the picture is in x_T; what is, is the noise that the network saw last."""
    schedule = LINEAR.rescale_zero_terminal_snr()
    row = make_inversion(schedule, steps=10, spacing="trailing", prediction="v").table[-1]
    assert row[[Column.A, Column.B, Column.OUT]].tolist() == [1.0, 0.0, 0.0]  # eps = x at abar = 0
    with pytest.raises(PlanError, match="spacing leading does not begin at 999"):
        make_inversion(schedule, steps=10, spacing="leading", prediction="v")


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"steps": 0}, "steps must lie between 1 and 1000, got 0"),
        ({"steps": 11, "start": 9}, "steps must lie between 1 and 10, got 11"),
        ({"start": 1000}, "start must lie between 0 and 999, got 1000"),
        ({"spacing": "cubic"}, "spacing 'cubic' is not known"),
        ({"prediction": "noise"}, "prediction 'noise': choose eps, x0 or v"),
    ],
)
def test_an_impossible_inversion_is_refused(flaw: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_inversion(LINEAR, **flaw)


# Only eps: diffusers reads v and x0 as if of the level before, where the network was not asked (x0 is 0/0 at first).
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [10, 50])
def test_diffusers_inverts_alike(steps: int, spacing: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMInverseScheduler(1000, clip_sample=False, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    plan, network = make_inversion(LINEAR, steps=steps, spacing=spacing), GaussianDenoiser()
    theirs = IMAGE.float()
    for (t, mine, _), timestep in zip(
        sample_steps(plan, network, shape=SHAPE, seeds=[0], x_start=theirs), scheduler.timesteps, strict=True
    ):
        assert t == timestep
        theirs = scheduler.step(network(theirs, timestep[None]), timestep, theirs).prev_sample
        assert_same_trajectory([mine], [theirs])
