"""How predicted images are kept in range: never, at a bound, or by a quantile of their own pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.model import PlanError, make_plan
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.clipping import Clipping
from difuso.model.step import advance
from tests.oracle import LINEAR, abar_at
from tests.trajectories import steps_of

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 5, 7)
# Images of several contrasts: within [-1, 1], a little beyond it, far beyond it, with one bright pixel.
IMAGES = draw_noise([image_generator(seed) for seed in range(4)], SHAPE).double() * torch.tensor(
    [0.2, 1.0, 10.0, 0.2], dtype=torch.float64
).view(-1, 1, 1, 1)
IMAGES[3, 0, 0, 0] = 7.0


def clipped(clipping: Clipping, x0: Tensor) -> Tensor:
    """What `advance` makes of a network that outputs x0."""
    row = torch.from_numpy(make_plan(LINEAR, prediction="x0", clipping=clipping).table[0].copy()).to(x0)
    zero = torch.zeros_like(x0)
    return advance(zero, zero, x0, zero, row.expand(len(x0), -1))[1]


def dynamic(image: list[float], quantile: float, bound: float) -> list[float]:
    """Saharia et al. 2022, section 2.3, one number at a time."""
    magnitudes = sorted(map(abs, image))
    position = quantile * (len(magnitudes) - 1)
    below, above = magnitudes[math.floor(position)], magnitudes[math.ceil(position)]
    s = min(max(below + (position - math.floor(position)) * (above - below), 1.0), bound)
    return [min(max(value, -s), s) / s for value in image]


@pytest.mark.parametrize("bound", [1.0, 0.5, 2.0])
def test_static_clamps_to_its_bound(bound: float) -> None:
    assert torch.equal(clipped(Clipping("static", bound), IMAGES), IMAGES.clamp(-bound, bound))


@pytest.mark.parametrize(("quantile", "bound"), [(0.995, None), (0.9, 1.5), (0.5, 1.0), (1.0, None)])
def test_dynamic_is_the_published_formula(quantile: float, bound: float | None) -> None:
    result = clipped(Clipping("dynamic", bound, quantile), IMAGES)
    for image, raw in zip(result, IMAGES, strict=True):
        expected = dynamic(raw.flatten().tolist(), quantile, math.inf if bound is None else bound)
        assert image.flatten().tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", ["static", "none", "dynamic"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_network_shows(mode: Any, value: float) -> None:
    """NaN stays NaN, whatever would clamp it; infinity as its own threshold does not make an image grey."""
    images = IMAGES.clone()
    images[1, 2, 3, 4] = value
    result = clipped(Clipping(mode, None if mode == "dynamic" else 1.0, 1.0), images)
    assert torch.isfinite(result[[0, 2, 3]]).all()
    if math.isnan(value) or mode != "static":
        assert not torch.isfinite(result[1]).all()


def restless(x_t: Tensor, t: Tensor) -> Tensor:
    """A network whose x0 lies now within [-1, 1] and now beyond."""
    return (2 * x_t + t.view(-1, 1, 1, 1) / 300).sin()


def ddim_by_hand(out: Tensor, x: Tensor, abar: float, abar_next: float, convention: str) -> Tensor:
    """One deterministic step, in the words of three repositories."""
    x0 = (x - (1 - abar) ** 0.5 * out) / abar**0.5
    if convention == "ermongroup":  # never clips
        eps = out
    elif convention == "guided-diffusion":  # clips, and takes the noise that belongs to the clipped image
        x0 = x0.clamp(-1, 1)
        eps = (x - abar**0.5 * x0) / (1 - abar) ** 0.5
    else:  # diffusers clips, and goes on with the noise as it was predicted
        x0, eps = x0.clamp(-1, 1), out
    x_next: Tensor = abar_next**0.5 * x0 + (1 - abar_next) ** 0.5 * eps
    return x_next


CONVENTIONS = {
    "ermongroup": Clipping("none"),
    "guided-diffusion": Clipping("static"),
    "diffusers": Clipping("static", keep_eps=True),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_ddim_follows_each_of_three_conventions(sampler: str, convention: str) -> None:
    """Whole runs in float64."""
    plan = make_plan(LINEAR, sampler=sampler, steps=20, clipping=CONVENTIONS[convention])
    abar = [*abar_at(LINEAR, plan.timesteps), 1.0]
    x = draw_noise([image_generator(0)], SHAPE).double()
    steps = steps_of(plan, restless, shape=SHAPE, seeds=[0], dtype=torch.float64)
    for (t, mine, _), now, after in zip(steps, abar[:-1], abar[1:], strict=True):
        x = ddim_by_hand(restless(x, torch.tensor([t])), x, now, after, convention)
        assert torch.allclose(mine, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"mode": "soft"}, "unknown clip mode 'soft': choose one of none, static, dynamic"),
        ({"bound": None}, "static clipping needs a bound"),
    ],
)
def test_an_impossible_clipping_is_refused(flaw: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        dataclasses.replace(Clipping(), **flaw)
