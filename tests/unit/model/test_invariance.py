"""A picture depends on its seed and its plan, and not by one bit on who shares its batch, nor on its place in there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from difuso.model import Plan, make_plan, sample
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.inversion import make_inversion
from difuso.model.plans.plan import Column
from difuso.model.step import advance
from tests.oracle import LINEAR, GaussianDenoiser

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 5, 7)  # odd, so that vectorised loops have a tail

# What one batch of a server may hold: every kind of row, several lengths, starts and grids.
MIX: list[dict[str, Any]] = [
    {"sampler": "ddpm", "steps": 9, "spacing": "linspace"},
    {"sampler": "ddpm", "steps": 6, "spacing": "leading"},
    {"sampler": "ddpm", "steps": 7, "spacing": "quad", "variance": "learned_range"},
    {"sampler": "ddpm", "steps": 5, "spacing": "karras", "variance": "learned", "classifier_scale": 2.0},
    {
        "sampler": "ddpm",
        "steps": 4,
        "variance": "learned_range",
        "classifier_scale": 1.0,
        "clipping": Clipping("dynamic", 4),
    },
    {"sampler": "ddim", "steps": 12, "spacing": "trailing"},
    {"sampler": "ddim", "steps": 5, "eta": 0.5, "clip": "none"},
    {"sampler": "ddim", "steps": 1, "spacing": "trailing"},
    {"sampler": "ddim", "steps": 6, "clipping": Clipping(keep_eps=True), "classifier_scale": 0.5},
    {"sampler": "ddim", "steps": 6, "clipping": Clipping("dynamic", None, 0.9)},
    {"sampler": "dpmpp", "steps": 8, "spacing": "trailing"},
    {
        "sampler": "dpmpp",
        "steps": 8,
        "spacing": "trailing",
        "clipping": Clipping("dynamic", 1.5),
        "classifier_scale": 3.0,
    },
    {"sampler": "dpmpp", "steps": 3, "start": 400},
    {"sampler": "dpmpp", "steps": 6, "eta": 2.5, "spacing": "trailing"},
    {"sampler": "unipc", "steps": 8, "spacing": "trailing"},
    {"sampler": "dpmpp_3m", "steps": 8, "spacing": "trailing"},
    {"sampler": "euler", "steps": 6, "spacing": "karras"},
    {"sampler": "heun", "steps": 9, "spacing": "karras", "clipping": Clipping("dynamic", None, 1.0)},
    {"sampler": "heun", "steps": 8, "spacing": "quad"},
]
PLANS = [*(make_plan(LINEAR, **arguments) for arguments in MIX), make_inversion(LINEAR, steps=7).plan]


def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
    """The oracle, with a second half of outputs for the variance; some of it beyond -1..1."""
    return torch.cat([GaussianDenoiser()(x_t, t), (3 * x_t).sin() * 1.2], dim=1)


def guide(x_t: Tensor, t: Tensor) -> Tensor:
    return 0.3 - x_t


def alone(plan: Plan, seed: int) -> Tensor:
    return sample(plan, denoiser, shape=SHAPE, seeds=[seed], guide=guide if plan.table[:, Column.G].any() else None)[0]


@pytest.mark.parametrize("plan", PLANS, ids=[*map(str, MIX), "inversion"])
def test_a_picture_does_not_depend_on_its_batch(plan: Plan) -> None:
    """Bit for bit, in every place of a batch of eight."""
    seeds = [11, 3, 8, 0, 5, 2**40, 7, 4]
    together = sample(plan, denoiser, shape=SHAPE, seeds=seeds, guide=guide)
    for image, seed in zip(together, seeds, strict=True):
        assert torch.equal(image, alone(plan, seed))


def test_any_mix_of_plans_is_one_batch() -> None:
    """Rows of different samplers, lengths and starts, stepped together while some finish, equal separate runs."""
    generators = [image_generator(20 + i) for i in range(len(PLANS))]
    x = draw_noise(generators, SHAPE)
    x0 = torch.zeros_like(x)
    before = x0.clone()
    for step in range(max(map(len, PLANS))):
        live = [i for i, plan in enumerate(PLANS) if step < len(plan)]
        rows = torch.stack([torch.from_numpy(PLANS[i].table[step].copy()) for i in live]).float()
        z, gradient = torch.zeros_like(x[live]), torch.zeros_like(x[live])
        for place, i in enumerate(live):
            if PLANS[i].table[step, Column.S]:
                z[place] = draw_noise([generators[i]], SHAPE)[0]
            if PLANS[i].table[step, Column.G]:
                gradient[place] = guide(x[i], torch.tensor(0))
        # One call for each kind of time, as the oracle has no place for both in one tensor.
        out = torch.cat([denoiser(x[i : i + 1], torch.tensor([PLANS[i].timesteps[step]])) for i in live])
        previous = x0[live]
        x[live], x0[live] = advance(x[live], previous, out, z, rows, gradient, before[live])
        before[live] = previous
    for i, plan in enumerate(PLANS):
        assert torch.equal(x[i], alone(plan, 20 + i))


@given(places=st.lists(st.integers(0, len(PLANS) - 1), min_size=1, max_size=20), step=st.integers(0, 11))
def test_a_step_is_the_same_in_any_neighbourhood(places: list[int], step: int) -> None:
    """`advance` of any rows, any of them repeated, in any order, is that of each row alone."""
    noise = np.random.default_rng(step).normal(size=(len(PLANS), 7, *SHAPE)).astype(np.float32) * 2
    x, x0, before, z, gradient, out, learned = torch.from_numpy(noise).unbind(1)
    out = torch.cat([out, learned], dim=1)
    rows = torch.stack([torch.from_numpy(plan.table[min(step, len(plan) - 1)].copy()) for plan in PLANS]).float()
    guided = rows[:, Column.G] != 0
    gradient = gradient * guided[:, None, None, None]
    batch = advance(x[places], x0[places], out[places], z[places], rows[places], gradient[places], before[places])
    for place, i in enumerate(places):
        own = slice(i, i + 1)
        needed = before[own] if rows[i, Column.D] else None
        lone = advance(x[own], x0[own], out[own], z[own], rows[own], gradient[own] if guided[i] else None, needed)
        for mine, its in zip(batch, lone, strict=True):
            assert torch.equal(mine[place], its[0])


def test_the_inputs_stay_as_they_were() -> None:
    """Clipping one image by its own threshold writes to no tensor that somebody else holds."""
    plan = make_plan(LINEAR, clipping=Clipping("dynamic", None, 0.5), prediction="x0")
    rows = torch.from_numpy(plan.table[:1].copy()).float()
    x, x0, out, z, gradient = torch.linspace(-3, 3, 5 * 105).view(5, 1, *SHAPE).clone()
    before = [tensor.clone() for tensor in (x, x0, out, z, rows, gradient)]
    advance(x, x0, out, z, rows, gradient)
    for now, then in zip((x, x0, out, z, rows, gradient), before, strict=True):
        assert torch.equal(now, then)
