"""A plan has as many rows as network calls were asked for, or says why there is none."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difuso.model import NoiseSchedule, PlanError, make_plan
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.plan import CLEAN, Column, levels_after
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.spacing import EXPONENTIAL, KARRAS, SPACINGS
from tests.oracle import abar_at

LINEAR = NoiseSchedule.linear(1000)
GRIDS = [*SPACINGS, EXPONENTIAL, KARRAS]
FLAWS: list[tuple[dict[str, Any], str]] = [
    (
        {"sampler": "dpm"},
        "sampler 'dpm' is not known: choose one of ddpm, ddim, dpmpp, dpmpp_sde, ",
    ),
    (
        {"spacing": "cubic"},
        "spacing 'cubic' is not known: choose one of linspace, leading, trailing, quad, exponential, karras, or a list",
    ),
    *(
        ({"sampler": sampler, "spacing": spacing, "steps": steps}, f"steps must lie between 1 and 1000, got {steps}")
        for sampler, spacing, steps in (("ddpm", "leading", 0), ("heun", "karras", 1001), ("heun", "quad", -1))
    ),
    (
        {"spacing": "at:0,400,999", "steps": 3, "sampler": "heun"},
        "must list the 2 noise levels of the run, got 3",
    ),
    ({"eta": -0.1}, "eta must lie between 0 and 1, got -0.1"),
    ({"eta": 1.1}, "eta must lie between 0 and 1"),
    ({"eta": float("nan")}, "eta must lie between 0 and 1"),
    ({"eta": 10.1, "sampler": "dpmpp"}, "eta must lie between 0 and 10, got 10.1"),
    ({"eta": 0.5, "sampler": "euler"}, "eta is not a parameter of euler"),
    (
        {"variance": "large"},
        "variance 'large' is not known: choose one of fixed_small, fixed_large, learned, learned_range",
    ),
    ({"prediction": "noise"}, "prediction 'noise': choose eps, x0, v or flow"),
    ({"start": -1, "steps": 1}, "start must lie between 0 and 999, got -1"),
    ({"start": 1000}, "start must lie between 0 and 999, got 1000"),
    ({"start": 9, "steps": 11}, "steps must lie between 1 and 10, got 11"),
    ({"start": 9, "steps": 11, "sampler": "heun"}, "steps must lie between 1 and 10, got 11"),
    (
        {"sampler": "ddpm", "variance": "fixed_large", "steps": 499},
        "steps must be at least 500 with variance fixed_large, .* choose variance=fixed_small, got 499",
    ),
    ({"sampler": "ddpm", "variance": "fixed_large", "steps": 0}, "steps must lie between 1 and 1000, got 0"),
    (
        {"sampler": "ddpm", "variance": "fixed_large", "steps": 99, "start": 99},
        "steps must be at least 100 with variance fixed_large, .* got 99",
    ),
]


@given(data=st.data(), total=st.integers(1, 400), sampler=st.sampled_from(sorted(SAMPLERS)))
def test_a_plan_has_one_row_per_step(data: st.DataObject, total: int, sampler: str) -> None:
    """Whatever is asked for: `steps` rows of finite numbers, at falling timesteps of the schedule.

    Strictly falling, but for samplers that call at a level twice, as the end of one step and the begin of the next.
    """
    start = data.draw(st.none() | st.integers(0, total - 1))
    steps = data.draw(st.integers(1, total if start is None else start + 1))
    spacing = data.draw(st.sampled_from(GRIDS))
    plan = make_plan(NoiseSchedule.linear(total), sampler=sampler, steps=steps, spacing=spacing, start=start)
    assert len(plan) == steps
    assert plan.table.shape == (steps, len(Column))
    assert np.isfinite(plan.table).all()
    twice = 2 if sampler in ("heun", "heun_flow", "plms", "dpm2_ancestral") else 1
    assert all(len(list(calls)) <= twice for _, calls in itertools.groupby(plan.timesteps))
    assert list(plan.timesteps) == sorted(plan.timesteps, reverse=True)
    assert plan.timesteps[-1] >= 0
    assert plan.timesteps[0] < total
    assert start is None or plan.timesteps[0] == start


@pytest.mark.parametrize(
    ("steps", "timesteps"),
    # By hand: a level is the end of one step, where the correction is called, and the begin of the next.
    [
        (7, (999, 666, 666, 333, 333, 0, 0)),
        (6, (999, 666, 333, 333, 0, 0)),
        (5, (999, 500, 500, 0, 0)),
        (4, (999, 500, 0, 0)),
        (3, (999, 0, 0)),
        (2, (999, 0)),
        (1, (999,)),
    ],
)
def test_heun_calls_at_both_ends_of_a_step(steps: int, timesteps: tuple[int, ...]) -> None:
    """An even number of calls leaves out the correction of the first step."""
    assert make_plan(LINEAR, sampler="heun", spacing="linspace", steps=steps).timesteps == timesteps


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_start_at_the_last_timestep_is_the_whole_run(sampler: str) -> None:
    whole, started = (make_plan(LINEAR, sampler=sampler, steps=50, spacing="trailing", start=s) for s in (None, 999))
    assert whole.timesteps == started.timesteps
    assert np.array_equal(whole.table, started.table)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ("lms", "plms", "ipndm")])
def test_the_last_row_is_the_clean_image_and_draws_no_noise(sampler: str) -> None:
    eta = SAMPLERS[sampler].most_eta
    runs: list[tuple[int, Any, bool]] = [(1, "fixed_small", False), (2, "learned", True), (30, "learned_range", False)]
    for steps, variance, keep_eps in runs:
        plan = make_plan(
            LINEAR, sampler=sampler, steps=steps, eta=eta, variance=variance, clipping=Clipping(keep_eps=keep_eps)
        )
        last = plan.table[-1, [Column.A, Column.B, Column.OUT, Column.C, Column.S]]
        assert last == pytest.approx([0, 1, 0, 0, 0], abs=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_first_rows_need_no_x0_of_calls_before_them(sampler: str) -> None:
    for steps in (1, 2, 3, 20):
        table = make_plan(LINEAR, sampler=sampler, steps=steps).table
        assert table[0, Column.C] == 0
        assert not table[:2, Column.D].any()
        assert not table[:3, Column.H].any()


def test_only_stochastic_runs_draw_noise() -> None:
    def noisy(**arguments: Any) -> bool:
        return bool((make_plan(LINEAR, **arguments).table[:-1, Column.S] != 0).all())

    assert noisy(sampler="ddim", eta=0.1)
    assert noisy(sampler="dpmpp", eta=0.1)
    for sampler, facts in SAMPLERS.items():
        assert make_plan(LINEAR, sampler=sampler).stochastic is facts.always_noisy
        assert noisy(sampler=sampler) is (facts.always_noisy and sampler != "dpm2_ancestral")  # one of two calls


@pytest.mark.parametrize("spacing", GRIDS)
def test_euler_is_ddim_without_noise(spacing: str) -> None:
    """In sigma, x0 held, DDIM's update is the straight line of Euler's (Song et al. 2021, eq. 14)."""
    euler, ddim = (make_plan(LINEAR, sampler=sampler, spacing=spacing, steps=20) for sampler in ("euler", "ddim"))
    assert euler.timesteps == ddim.timesteps
    assert np.array_equal(euler.table, ddim.table)


@pytest.mark.parametrize(("arguments", "message"), FLAWS, ids=[str(arguments) for arguments, _ in FLAWS])
def test_an_impossible_run_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(LINEAR, **arguments)


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_plan(LINEAR).table[0, 0] = 1.0


# How noisy x_t is between the network calls


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(PlanError, match=r"^stpes is no setting of a run: did you mean steps\?$"):
        make_plan(LINEAR, stpes=7)
    with pytest.raises(PlanError, match=r"^colour is no setting of a run: choose of sampler, steps, spacing"):
        make_plan(LINEAR, colour="red")


def test_jobs_with_the_same_settings_share_a_plan() -> None:
    plan = make_plan(LINEAR, sampler="ddim", steps=7)
    assert make_plan(LINEAR, sampler="ddim", steps=7) is plan
    others: tuple[dict[str, Any], ...] = (
        {"steps": 8},
        {"eta": 1.0},
        {"start": 600},
        {"prediction": "v"},
        {"clipping": Clipping(keep_eps=True)},
    )
    for other in others:
        assert make_plan(LINEAR, **{"sampler": "ddim", "steps": 7, **other}) is not plan
    assert make_plan(NoiseSchedule.linear(1000), sampler="ddim", steps=7) is not plan


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


@pytest.mark.parametrize(("spacing", "sigma"), [("at:end@0.25,40@0.5,500@3", 0.25), ("at:40@0.5,500@3", 0.0)])
def test_the_levels_after_calls_are_those_of_a_list(spacing: str, sigma: float) -> None:
    """An entry's own sigma, not that of its timestep, and the level where the run ends."""
    timesteps, left = levels_after(make_plan(LINEAR, spacing=spacing, steps=2), LINEAR, (1, 2))
    assert list(timesteps) == [40, LINEAR.timestep_at(np.array(sigma)) if sigma else CLEAN]
    assert left == pytest.approx([1 / (1 + 0.5**2), 1 / (1 + sigma**2)], rel=1e-9)
