"""DDRM without a network: on the Gaussian oracle every coordinate is a recursion of its mean and variance."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule
from difuso.model.ddrm import Restoration, make_restoration
from difuso.model.images import from_levels, to_uint8
from difuso.model.noise import draw_noise, image_generator
from difuso.model.operators import (
    Blur,
    Colorization,
    Inpainting,
    Operator,
    SuperResolution,
    gaussian_kernel,
    uniform_kernel,
)
from difuso.model.plans.plan import Column
from difuso.model.plans.settings import RESTORATION_ETA as ETA
from difuso.model.step import advance
from tests.oracle import LINEAR, GaussianDenoiser

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 8, 8)
MISSING = torch.zeros(8, 8, dtype=torch.bool)
MISSING[2:6, 3:] = True
OPERATORS: dict[str, Operator] = {
    "inpainting": Inpainting(MISSING, 3),
    "half": SuperResolution(2, SHAPE),
    "quarter": SuperResolution(4, SHAPE),
    "grey": Colorization(SHAPE),
    "gaussian": Blur(gaussian_kernel(0.6), SHAPE),
    "uniform": Blur(uniform_kernel(3), SHAPE),
}


def picture(seed: int = 9) -> Tensor:
    """Whose pixels are whole grey levels."""
    return from_levels(torch.randint(0, 256, (1, 8, 8, 3), generator=torch.Generator().manual_seed(seed)).byte())[0]


def restore(restoration: Restoration, denoiser: GaussianDenoiser, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    generator = [image_generator(seed)]
    x = restoration.begin(draw_noise(generator, shape)[0])[None]
    x0 = torch.zeros_like(x)
    rows = torch.from_numpy(restoration.plan.table.copy()).float()
    for i, (row, t) in enumerate(zip(rows, restoration.plan.timesteps, strict=True)):
        z = draw_noise(generator, shape) if row[Column.S] else torch.zeros_like(x)
        x, x0 = advance(x, x0, denoiser(x, torch.tensor([t])), z, row[None])
        x = restoration.agree(i, x[0], x0[0], z[0])[None]
    return x[0]


def expected(steps: int, *, spread: float, deviation: float) -> tuple[float, float]:
    """Mean per measured value and standard deviation, by Kawar et al. 2022, eq. 4 and 5 in x / sqrt(abar).

    Args:
        spread: standard deviation of the data.
        deviation: of the noise of the coordinate as measured, sigma / s; infinite where it is not measured.
    """
    sigmas = [*LINEAR.sigmas[[i * 1000 // steps for i in range(steps)]][::-1], 0.0]
    mean, variance = (1.0, sigmas[0] ** 2 - deviation**2) if deviation <= sigmas[0] else (0.0, sigmas[0] ** 2)
    for before, after in itertools.pairwise(sigmas):
        guess = spread**2 / (spread**2 + before**2)
        if deviation <= after:
            mean, variance = 1.0, after**2 - deviation**2
        elif math.isinf(deviation):  # x0 + sqrt(1 - eta^2) after eps + eta after z, with eps = (x - x0) / before
            factor = guess + math.sqrt(1 - ETA**2) * after / before * (1 - guess)
            mean, variance = factor * mean, factor**2 * variance + (ETA * after) ** 2
        else:
            drawn = math.sqrt(1 - ETA**2) * after / deviation
            mean = (1 - drawn) * guess * mean + drawn
            variance = ((1 - drawn) * guess) ** 2 * variance + (ETA * after) ** 2
    return mean, math.sqrt(variance)


@pytest.mark.parametrize(
    ("sigma", "steps", "prediction"), [(0.05, 100, "eps"), (0.2, 20, "v"), (1.0, 20, "eps"), (1.0, 100, "v")]
)
def test_measured_coordinates_follow_the_publication(steps: int, sigma: float, prediction: str) -> None:
    """10^4 pixels that all measured 0.8: the mean within four standard errors, the deviation within 3 %."""
    shape = (1, 100, 100)
    operator = Inpainting(torch.zeros(shape[1:], dtype=torch.bool), 1)
    y = torch.full(shape, 0.8)
    restoration = make_restoration(LINEAR, operator, y, sigma=sigma, steps=steps, prediction=prediction)  # type: ignore[arg-type]
    found = restore(restoration, GaussianDenoiser(s=0.5, prediction=prediction), shape)  # type: ignore[arg-type]
    mean, std = expected(steps, spread=0.5, deviation=sigma)
    assert found.mean().item() == pytest.approx(0.8 * mean, abs=4 * std / 100)
    assert found.std().item() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize(
    "operator", [SuperResolution(2, (1, 48, 48)), Blur(uniform_kernel(3), (1, 48, 48))], ids=["half", "uniform"]
)
def test_each_coordinate_for_itself(operator: Operator) -> None:
    """Weights of 1/2, or of all sizes: what differs from the recursion's mean has its deviation."""
    shape, sigma = (1, 48, 48), 0.1
    y = operator.apply(torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1)
    restored = restore(make_restoration(LINEAR, operator, y, sigma=sigma), GaussianDenoiser(s=0.5), shape)
    found, measured = operator.to_coordinates(restored), operator.read(y)
    scores = []
    for value in sorted(set(operator.singular_values.flatten().tolist())):
        places = operator.singular_values == value
        mean, std = expected(20, spread=0.5, deviation=sigma / value if value else math.inf)
        scores.append((found[places] - mean * measured[places]) / std)
    score = torch.cat(scores)
    assert score.mean().item() == pytest.approx(0, abs=4 / 48)
    assert score.std().item() == pytest.approx(1, rel=0.05)
    assert score.abs().max() < 4.5


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_measured_pixels_are_kept_bit_for_bit(steps: int) -> None:
    """The last step has sigma = 0 = sigma_y: that equality must count as measured, not as missing."""
    operator, whole = OPERATORS["inpainting"], picture()
    restored = restore(
        make_restoration(LINEAR, operator, operator.apply(whole), sigma=0.0, steps=steps), GaussianDenoiser(), SHAPE
    )
    assert torch.equal(restored[:, ~MISSING], whole[:, ~MISSING])
    same = to_uint8(restored[None]) == to_uint8(whole[None])
    assert same[0][~MISSING].all()
    assert not torch.equal(restored[:, MISSING], whole[:, MISSING])


@pytest.mark.parametrize("name", OPERATORS)
def test_it_agrees_with_a_measurement_without_noise(name: str) -> None:
    """H x = y: in every coordinate that counts as measured."""
    operator = OPERATORS[name]
    y = operator.apply(picture())
    restored = restore(make_restoration(LINEAR, operator, y, sigma=0.0), GaussianDenoiser(), SHAPE)
    torch.testing.assert_close(operator.read(operator.apply(restored)), operator.read(y), rtol=0, atol=1e-3)
    if name not in ("gaussian", "uniform"):  # whose weakest coordinates are left to the network
        torch.testing.assert_close(operator.apply(restored), y, rtol=0, atol=2e-6)


def test_what_is_not_measured_follows_the_plan_alone() -> None:
    """Inpainting where all is missing is the plan's own run, and of two pictures the same hole gets the same pixels."""
    nothing = Inpainting(torch.ones(8, 8, dtype=torch.bool), 3)
    restoration = make_restoration(LINEAR, nothing, torch.zeros(SHAPE), sigma=0.0)
    x, z, x0 = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    for row in range(20):
        assert torch.equal(restoration.agree(row, x, x0, z), x)
    holes = []
    for seed in (1, 2):  # the oracle looks at each pixel alone
        made = make_restoration(LINEAR, OPERATORS["inpainting"], picture(seed), sigma=0.0)
        holes.append(restore(made, GaussianDenoiser(), SHAPE)[:, MISSING])
    assert torch.equal(*holes)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_a_schedule_that_ends_in_pure_noise(sigma: float) -> None:
    """Its sigma_T is infinite, and x_T is z."""
    schedule: NoiseSchedule = LINEAR.rescale_zero_terminal_snr()
    operator = OPERATORS["half"]
    y = operator.apply(picture())
    restoration = make_restoration(schedule, operator, y, sigma=sigma, spacing="trailing", prediction="v")
    z = draw_noise([image_generator(0)], SHAPE)[0]
    torch.testing.assert_close(restoration.begin(z), z, rtol=0, atol=2e-6)
    restored = restore(restoration, GaussianDenoiser(schedule, prediction="v"), SHAPE)
    assert torch.isfinite(restored).all()
    if not sigma:
        torch.testing.assert_close(operator.apply(restored), y, rtol=0, atol=2e-6)
