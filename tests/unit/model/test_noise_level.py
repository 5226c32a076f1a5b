"""Where a noisy picture enters the reverse process: the table of section 3.2 of the reference "diffusion-science"."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from difuso.model import NoiseSchedule, PlanError
from difuso.model.noise import enter
from difuso.model.plans.noise_level import noise_level
from tests.oracle import LINEAR

pytestmark = pytest.mark.usefixtures("one_thread")

GREY_LEVEL = 1 / 127.5
TABLE = {5: 7.71, 10: 19.70, 15: 31.90, 25: 56.18, 50: 114.36, 75: 167.17, 100: 213.76, 127.5: 258.09, 255: 395.95}
UNIT_TABLE = {0.01: 2.29, 0.05: 26.41, 0.1: 57.38, 0.2: 116.59, 0.25: 144.15, 0.5: 258.09, 1: 395.95}
SIGMAS = {**{level * GREY_LEVEL: t for level, t in TABLE.items()}, **{2 * unit: t for unit, t in UNIT_TABLE.items()}}


def test_the_published_table() -> None:
    """Fractional, and the least whole timestep that is as noisy."""
    for sigma, timestep in SIGMAS.items():
        assert LINEAR.timestep_at(np.array(sigma)) == pytest.approx(timestep, abs=0.01)
        assert noise_level(LINEAR, sigma).timestep == math.ceil(timestep)


def test_what_is_missing_is_topped_up() -> None:
    """25 grey levels: 57, whose sigma is .198756, so .032517 more."""
    level = noise_level(LINEAR, 25 * GREY_LEVEL)
    assert level.timestep == 57
    assert LINEAR.sigmas[57] == pytest.approx(0.198756, abs=1e-6)
    assert level.top_up == pytest.approx(0.032517, abs=1e-6)
    assert level.scale == pytest.approx(math.sqrt(LINEAR.alphas_cumprod[57]), rel=1e-12)


@pytest.mark.parametrize("timestep", [0, 57, 999])
def test_a_picture_as_noisy_as_a_timestep_enters_there_as_it_is(timestep: int) -> None:
    level = noise_level(LINEAR, float(LINEAR.sigmas[timestep]))
    assert (level.timestep, level.top_up) == (timestep, 0.0)


@pytest.mark.parametrize(("sigma", "timestep"), [(25 * GREY_LEVEL, None), (25 * GREY_LEVEL, 300), (0.0, 40)])
def test_it_enters_with_the_variance_of_x_t(sigma: float, timestep: int | None) -> None:
    """x_t = sqrt(abar) x0 + sqrt(1 - abar) z; 10^5 pixels, so 1 % is more than four standard errors."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((1, 250, 400), 0.7)
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
    level = noise_level(LINEAR, sigma, timestep)
    x_t = enter(level, noisy, torch.randn(clean.shape, generator=generator))
    abar = LINEAR.alphas_cumprod[level.timestep]
    spread = math.sqrt(1 - abar)
    assert timestep in (None, level.timestep)
    assert x_t.mean().item() == pytest.approx(0.7 * math.sqrt(abar), abs=4 * spread / math.sqrt(1e5))
    assert x_t.std().item() == pytest.approx(spread, rel=0.01)


def test_more_noise_than_there_is_anywhere_is_refused() -> None:
    most = float(LINEAR.sigmas[-1])
    assert noise_level(LINEAR, most).timestep == 999
    with pytest.raises(PlanError, match=r"sigma is more noise than timestep 999 has, which is .*, got "):
        noise_level(LINEAR, most * 1.001)
    with pytest.raises(PlanError, match="more noise than timestep 20"):
        noise_level(LINEAR, 25 * GREY_LEVEL, 20)


def test_nothing_enters_where_nothing_is_left_of_it() -> None:
    schedule = NoiseSchedule.linear(10).rescale_zero_terminal_snr()
    with pytest.raises(PlanError, match=r"sigma is more noise than at any timestep that leaves something .*1277"):
        noise_level(schedule, float(schedule.sigmas[-2]) * 2)
    with pytest.raises(PlanError, match="t 9 leaves nothing of an image"):
        noise_level(schedule, 0.0, 9)
