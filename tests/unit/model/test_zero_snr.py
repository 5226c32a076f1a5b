"""Models whose noise ends in pure noise: what they cannot do is refused, and the rest begins where nothing is left.

At T-1 beta is 1 and abar is 0 (Lin et al. 2024), so coefficients with 1 / sqrt(abar) or a finite sigma do not exist.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from difuso.model import NoiseSchedule, PlanError, make_plan
from difuso.model.plans.plan import Column
from difuso.model.plans.samplers import SAMPLERS
from tests.oracle import LINEAR

pytestmark = pytest.mark.processors

ZERO_SNR = LINEAR.rescale_zero_terminal_snr()
CUT = NoiseSchedule(np.append(LINEAR.betas[:-1], 1.0))  # a leap of the last step only
SAMPLERS_FOR_IT = ["ddpm", "ddim", "dpmpp", "dpmpp_3m", "unipc", "euler"]


@pytest.mark.parametrize("schedule", [CUT, ZERO_SNR], ids=["cut", "rescaled"])
@pytest.mark.parametrize(("sampler", "steps"), [*zip(SAMPLERS_FOR_IT, (1, 2, 25, 1000, 2, 25), strict=True)])
def test_eps_says_nothing_of_the_image(sampler: str, steps: int, schedule: NoiseSchedule) -> None:
    """Where beta is 1 nothing of x0 is in x_t: eps cannot give it, v and x0 can."""
    arguments: dict[str, Any] = {"sampler": sampler, "steps": steps, "spacing": "trailing", "classifier_scale": 1.0}
    with pytest.raises(PlanError, match=r"prediction eps gives no x0 .* such a model needs v or x0"):
        make_plan(schedule, **arguments)
    for prediction, x0 in (("v", (0, -1)), ("x0", (0, 1))):
        plan = make_plan(schedule, **arguments, prediction=prediction)  # type: ignore[arg-type]
        assert np.isfinite(plan.table).all()
        assert tuple(plan.table[0, [Column.X0_X, Column.X0_OUT]]) == x0


def test_a_spacing_that_misses_the_end_is_refused() -> None:
    """It would begin at a level where x_T, with nothing of an image, is no x_t."""
    with pytest.raises(PlanError, match=r"spacing leading does not begin at 999, .*: choose trailing"):
        make_plan(ZERO_SNR, prediction="v", sampler="ddpm", spacing="leading", steps=25)


@pytest.mark.parametrize("spacing", ["trailing", "karras"])
def test_neither_karras_nor_heun_has_a_sigma_to_begin_at(spacing: str) -> None:
    """And no spacing helps heun, so that this is what is said whatever it is."""
    with pytest.raises(PlanError, match=r"karras needs a little of the image .*; choose trailing"):
        make_plan(ZERO_SNR, spacing="karras", prediction="v")
    with pytest.raises(PlanError, match=r"sampler heun needs a little of the image .*; choose ddim") as caught:
        make_plan(ZERO_SNR, sampler="heun", steps=250, spacing=spacing, prediction="v")
    assert caught.value.parameter == "sampler"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_start_below_the_end_may_be_anything(sampler: str) -> None:
    """An image that was noised to T-2 is still one, so eps, karras and heun have their levels."""
    for spacing in ("leading", "exponential", "karras"):
        plan = make_plan(ZERO_SNR, prediction="eps", start=998, steps=9, sampler=sampler, spacing=spacing)
        assert plan.timesteps[0] == 998
        assert np.isfinite(plan.table).all()


@pytest.mark.parametrize("sampler", SAMPLERS_FOR_IT)
def test_the_first_step_keeps_only_the_predicted_image(sampler: str) -> None:
    """x_T is noise: DDIM goes on with it, ancestral sampling draws another; both add sqrt(abar') x0."""
    abar = ZERO_SNR.alphas_cumprod[979]
    row = make_plan(ZERO_SNR, sampler=sampler, spacing="trailing", steps=50, prediction="v").table[0]
    kept, drawn = (0.0, np.sqrt(1 - abar)) if sampler == "ddpm" else (np.sqrt(1 - abar), 0.0)
    assert row[[Column.A, Column.B, Column.S]] == pytest.approx([kept, np.sqrt(abar), drawn], rel=1e-9)


def test_dpmpp_cannot_look_back_to_an_infinite_step() -> None:
    """lambda is -infinity at T-1, so r is infinite at the second step, which is of first order: DDIM's."""
    ddim, dpmpp = (
        make_plan(ZERO_SNR, sampler=sampler, spacing="trailing", steps=50, prediction="v").table
        for sampler in ("ddim", "dpmpp")
    )
    assert dpmpp[:2] == pytest.approx(ddim[:2], rel=1e-9)
    assert dpmpp[2, Column.C] != 0
