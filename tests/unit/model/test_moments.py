"""How noisy x_t is between the network calls of a run."""

from __future__ import annotations

import numpy as np
import pytest

from difuso.model import make_plan
from difuso.model.plans.plan import CLEAN, levels_after
from tests.oracle import LINEAR, abar_at


@pytest.mark.parametrize(
    ("sampler", "spacing", "start"),
    [("ddim", "leading", None), ("ddpm", "linspace", 600), ("dpmpp", "karras", 600), ("unipc", "quad", None)],
)
def test_x_t_is_at_the_timestep_of_the_next_call_and_clean_at_the_end(
    sampler: str, spacing: str, start: int | None
) -> None:
    plan = make_plan(LINEAR, sampler=sampler, steps=100, spacing=spacing, start=start)
    calls = (1, 2, 50, 99, 100)
    timesteps, left = levels_after(plan, LINEAR, calls)
    assert timesteps.tolist() == [*(plan.timesteps[call] for call in calls[:-1]), CLEAN]
    assert np.allclose(left[:-1], abar_at(LINEAR, timesteps[:-1]), rtol=1e-12)
    assert left[-1] == 1.0
    assert (np.diff(left) > 0).all()


def test_whole_timesteps_have_the_numbers_of_the_schedule() -> None:
    plan = make_plan(LINEAR, sampler="ddim", steps=3, spacing="at:10,500,999")
    timesteps, left = levels_after(plan, LINEAR, (1, 2, 3))
    assert timesteps.tolist() == [500, 10, CLEAN]
    assert left.tolist() == [LINEAR.alphas_cumprod[500], LINEAR.alphas_cumprod[10], 1.0]


def test_a_correction_does_not_change_the_level() -> None:
    """Heun's second call of a step is at the level where the first has arrived."""
    plan = make_plan(LINEAR, sampler="heun", steps=5, spacing="linspace")
    timesteps, _ = levels_after(plan, LINEAR, (1, 2, 3, 4, 5))
    assert timesteps[0] == timesteps[1] == plan.timesteps[1]
    assert timesteps[2] == timesteps[3] == plan.timesteps[3] == 0
    assert timesteps[4] == CLEAN
