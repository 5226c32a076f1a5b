"""A plan has as many rows as network calls were asked for, at the published timesteps, or says why there is none."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import NoiseSchedule, Plan, PlanError, make_plan
from model.plan import Column
from model.samplers import SAMPLERS
from model.spacing import SPACINGS, space_timesteps

LINEAR = NoiseSchedule.linear(1000)
FLAWS: list[tuple[dict[str, Any], str]] = [
    ({"sampler": "euler"}, "sampler 'euler': choose one of ddpm, ddim, dpmpp"),
    ({"spacing": "quad"}, "spacing 'quad': choose one of linspace, leading, trailing"),
    ({"steps": 0}, "steps must lie between 1 and 1000, got 0"),
    ({"steps": -1}, "steps must lie between 1 and 1000, got -1"),
    ({"steps": 1001}, "steps must lie between 1 and 1000, got 1001"),
    ({"eta": -0.1}, "eta must lie between 0 and 1, got -0.1"),
    ({"eta": 1.1}, "eta must lie between 0 and 1"),
    ({"eta": float("nan")}, "eta must lie between 0 and 1"),
    ({"eta": 0.5, "sampler": "ddpm"}, "eta is a parameter of ddim; ddpm has none"),
    ({"eta": 0.5, "sampler": "dpmpp"}, "eta is a parameter of ddim; dpmpp has none"),
    ({"variance": "learned"}, "variance 'learned': choose one of fixed_small, fixed_large"),
    ({"prediction": "noise"}, "prediction 'noise': choose eps, x0 or v"),
    ({"start": -1, "steps": 1}, "start must lie between 0 and 999, got -1"),
    ({"start": 1000}, "start must lie between 0 and 999, got 1000"),
    ({"start": 9, "steps": 11}, "steps must lie between 1 and 10, got 11"),
    ({"sampler": "ddpm", "variance": "fixed_large", "steps": 499}, "fixed_large needs at least 500 steps, got 499"),
    ({"sampler": "ddpm", "variance": "fixed_large", "steps": 0}, "steps must lie between 1 and 1000, got 0"),
    (
        {"sampler": "ddpm", "variance": "fixed_large", "steps": 99, "start": 99},
        "fixed_large needs at least 100 steps, got 99",
    ),
]


@pytest.mark.parametrize(
    ("steps", "spacing", "first", "last"),
    # Section 2.4 of the reference "diffusion-science": enumerated from guided-diffusion's code.
    [
        (250, "linspace", [0, 4, 8, 12, 16, 20], [983, 987, 991, 995, 999]),
        (100, "linspace", [0, 10, 20], [989, 999]),
        (50, "linspace", [0, 20, 41, 61, 82], [938, 958, 979, 999]),
        (25, "linspace", [0, 42, 83, 125], [957, 999]),
        (250, "leading", [0, 4, 8], [992, 996]),
        (100, "leading", [0, 10], [990]),
        (50, "leading", [0, 20], [980]),
        (25, "leading", [0, 40], [960]),
        (250, "trailing", [3, 7, 11], [995, 999]),
        (100, "trailing", [9, 19], [999]),
        (50, "trailing", [19, 39], [999]),
        (25, "trailing", [39, 79], [999]),
    ],
)
def test_timesteps_are_the_published_ones(steps: int, spacing: str, first: list[int], last: list[int]) -> None:
    rising = list(make_plan(LINEAR, steps=steps, spacing=spacing).timesteps[::-1])
    assert (rising[: len(first)], rising[-len(last) :], len(rising)) == (first, last, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [10, 25, 50, 100, 250, 1000])
def test_timesteps_are_those_of_diffusers(steps: int, spacing: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(1000, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert make_plan(LINEAR, steps=steps, spacing=spacing).timesteps == tuple(scheduler.timesteps.tolist())


@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_number_of_steps_exists(spacing: str) -> None:
    """Exactly `steps` different timesteps within 0..T-1, for every number of steps there is."""
    for steps in range(1, 1001):
        timesteps = space_timesteps(spacing, steps, 1000)
        assert len(timesteps) == steps
        assert list(timesteps) == sorted(set(timesteps))
        assert timesteps[-1] <= 999


@pytest.mark.parametrize("steps", [2, 30, 300, 501, 999])
def test_each_spacing_reaches_its_end(steps: int) -> None:
    """No spacing leaves out more than one stride of the noise, as diffusers' leading does (300 steps begin at 897)."""
    assert space_timesteps("linspace", steps, 1000)[:: steps - 1] == (0, 999)
    assert space_timesteps("trailing", steps, 1000)[-1] == 999
    leading = space_timesteps("leading", steps, 1000)
    assert leading[0] == 0
    assert leading[-1] >= 1000 - 1000 / steps - 1


@given(data=st.data(), total=st.integers(1, 400), sampler=st.sampled_from(sorted(SAMPLERS)))
@settings(max_examples=60, deadline=None)
def test_a_plan_has_one_row_per_step(data: st.DataObject, total: int, sampler: str) -> None:
    """Whatever is asked for: `steps` rows of finite numbers, at strictly falling timesteps of the schedule."""
    start = data.draw(st.none() | st.integers(0, total - 1))
    steps = data.draw(st.integers(1, total if start is None else start + 1))
    spacing = data.draw(st.sampled_from(sorted(SPACINGS)))
    plan = make_plan(NoiseSchedule.linear(total), sampler=sampler, steps=steps, spacing=spacing, start=start)
    assert len(plan) == steps
    assert plan.table.shape == (steps, len(Column))
    assert np.isfinite(plan.table).all()
    assert all(later < earlier for earlier, later in itertools.pairwise(plan.timesteps))
    assert plan.timesteps[-1] >= 0
    assert plan.timesteps[0] < total
    assert start is None or plan.timesteps[0] == start


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_all_steps_are_the_unspaced_chain_bit_for_bit(sampler: str, spacing: str) -> None:
    plan = make_plan(LINEAR, sampler=sampler, steps=1000, spacing=spacing)
    transitions = SAMPLERS[sampler](LINEAR, eta=0.0, variance="fixed_small")[::-1]
    columns = [Column.A, Column.B, Column.C, Column.S]
    assert plan.timesteps == tuple(range(999, -1, -1))
    assert np.array_equal(plan.table[:, columns], np.array(transitions))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("start", [0, 1, 499, 500, 998])
def test_start_is_the_first_timestep(sampler: str, spacing: str, start: int) -> None:
    """An image that was noised to timestep `start` meets a plan that begins exactly there, with any number of steps."""
    for steps in {1, min(7, start + 1), start + 1}:
        plan = make_plan(LINEAR, sampler=sampler, steps=steps, spacing=spacing, start=start)
        assert (plan.timesteps[0], len(plan)) == (start, steps)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_start_at_the_last_timestep_is_the_whole_run(sampler: str) -> None:
    whole, started = (make_plan(LINEAR, sampler=sampler, steps=50, spacing="trailing", start=s) for s in (None, 999))
    assert whole.timesteps == started.timesteps
    assert np.array_equal(whole.table, started.table)


@pytest.mark.parametrize("steps", [1, 2, 30])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_last_row_is_the_clean_image_and_draws_no_noise(sampler: str, steps: int) -> None:
    last = make_plan(LINEAR, sampler=sampler, steps=steps, eta=1.0 if sampler == "ddim" else 0.0).table[-1]
    assert last[[Column.A, Column.B, Column.C, Column.S]] == pytest.approx([0, 1, 0, 0], abs=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_first_row_needs_no_previous_x0(sampler: str) -> None:
    assert make_plan(LINEAR, sampler=sampler, steps=20).table[0, Column.C] == 0


def test_only_stochastic_runs_draw_noise() -> None:
    def noisy(**arguments: Any) -> bool:
        return bool((make_plan(LINEAR, **arguments).table[:-1, Column.S] != 0).all())

    assert noisy(sampler="ddpm")
    assert noisy(sampler="ddim", eta=0.1)
    assert not make_plan(LINEAR, sampler="ddim").table[:, Column.S].any()
    assert not make_plan(LINEAR, sampler="dpmpp").table[:, Column.S].any()


@pytest.mark.parametrize(("clip", "bound"), [(True, 1.0), (False, np.inf)])
def test_clip_is_a_column(clip: bool, bound: float) -> None:
    assert (make_plan(LINEAR, clip=clip).table[:, Column.CLIP] == bound).all()


@pytest.mark.parametrize("t", [0, 99, 999])
def test_every_prediction_type_recovers_x0(t: int) -> None:
    """x0 from (x_t, eps), (x_t, v) and (x_t, x0) is the image that x_t was made of."""
    abar = LINEAR.alphas_cumprod[t]
    x0, eps = 0.3, -1.7
    x_t, v = abar**0.5 * x0 + (1 - abar) ** 0.5 * eps, abar**0.5 * eps - (1 - abar) ** 0.5 * x0
    for prediction, out in (("eps", eps), ("v", v), ("x0", x0)):
        row = make_plan(LINEAR, steps=1, start=t, prediction=prediction).table[0]  # type: ignore[arg-type]
        assert row[Column.X0_X] * x_t + row[Column.X0_OUT] * out == pytest.approx(x0, rel=1e-10)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_zero_terminal_snr_needs_v_or_x0(sampler: str) -> None:
    """Where beta is 1 nothing of x0 is in x_t: eps cannot give it, v and x0 can (Lin et al. 2024)."""
    schedule = NoiseSchedule(np.append(LINEAR.betas[:-1], 1.0))
    with pytest.raises(PlanError, match="prediction eps"):
        make_plan(schedule, sampler=sampler, spacing="trailing")
    plan = make_plan(schedule, sampler=sampler, spacing="trailing", prediction="v")
    assert np.isfinite(plan.table).all()
    assert plan.table[0, Column.X0_X] == 0


@pytest.mark.parametrize(("arguments", "message"), FLAWS, ids=[str(arguments) for arguments, _ in FLAWS])
def test_an_impossible_run_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(LINEAR, **arguments)


@pytest.mark.parametrize("arguments", [{"steps": 500}, {"steps": 1000}, {"steps": 100, "start": 99}])
def test_fixed_large_is_allowed_on_a_fine_chain(arguments: dict[str, Any]) -> None:
    """500 steps, or every timestep from a start in the middle."""
    assert isinstance(make_plan(LINEAR, sampler="ddpm", variance="fixed_large", **arguments), Plan)


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_plan(LINEAR).table[0, 0] = 1.0
