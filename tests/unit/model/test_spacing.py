"""Which levels a run visits: the published timesteps, exactly as many as asked for, or the grid of Karras et al."""

from __future__ import annotations

import bisect
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difuso.model import NoiseSchedule, PlanError, make_plan
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.schedule import ContinuousLinear, Flow
from difuso.model.plans.spacing import EXPONENTIAL, EXPONENTIAL_SIGMAS, KARRAS, SPACINGS, space_timesteps, visit_levels

LINEAR = NoiseSchedule.linear(1000)


@pytest.mark.parametrize(
    ("steps", "spacing", "first", "last"),
    # Section 2.4 of the reference "diffusion-science": enumerated from guided-diffusion's code.
    [
        (250, "linspace", [0, 4, 8, 12, 16, 20], [983, 987, 991, 995, 999]),
        (50, "linspace", [0, 20, 41, 61, 82], [938, 958, 979, 999]),
        (25, "linspace", [0, 42, 83, 125], [957, 999]),
        (250, "leading", [0, 4, 8], [992, 996]),
        (25, "trailing", [39, 79], [999]),
    ],
)
def test_timesteps_are_the_published_ones(steps: int, spacing: str, first: list[int], last: list[int]) -> None:
    rising = list(make_plan(LINEAR, steps=steps, spacing=spacing).timesteps[::-1])
    assert (rising[: len(first)], rising[-len(last) :], len(rising)) == (first, last, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_number_of_steps_exists(spacing: str) -> None:
    """Exactly `steps` different timesteps within 0..T-1, for every number of steps there is."""
    for steps in range(1, 1001):
        timesteps = space_timesteps(spacing, steps, 1000)
        assert len(timesteps) == steps
        assert list(timesteps) == sorted(set(timesteps))
        assert timesteps[-1] <= 999


def test_quad_by_hand() -> None:
    """999 (i / 9)^2 = 12.33 i^2."""
    assert space_timesteps("quad", 10, 1000) == (0, 12, 49, 111, 197, 308, 444, 604, 789, 999)
    assert space_timesteps("quad", 4, 4) == (0, 1, 2, 3)
    assert space_timesteps("quad", 1, 1000) == (0,)


@pytest.mark.parametrize("spacing", ["", "25", "ddim50", "25,25", "linspace\n"])
def test_an_unknown_spacing_is_refused(spacing: str) -> None:
    with pytest.raises(PlanError, match="is not known"):
        space_timesteps(spacing, 50, 1000)


def test_the_levels_are_those_of_the_schedule() -> None:
    levels = visit_levels(LINEAR, "trailing", 4)
    assert levels.timesteps == (249, 499, 749, 999)
    assert levels.chain.alphas_cumprod == pytest.approx(LINEAR.alphas_cumprod[[249, 499, 749, 999]], rel=1e-12)
    assert visit_levels(LINEAR, "trailing", 1000).chain is LINEAR


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_single_step_is_the_noisiest(spacing: str) -> None:
    """At timestep 0 pure noise would be taken for the image."""
    assert visit_levels(LINEAR, spacing, 1).timesteps == (999,)
    assert visit_levels(LINEAR, spacing, 1, start=400).timesteps == (400,)


def karras(sigmas: list[float], count: int) -> list[tuple[float, float]]:
    """(sigma, timestep) of each level, least noisy first: eq. 5 of Karras et al. 2022 one number at a time."""
    low, high = sigmas[0] ** (1 / 7), min(sigmas[-1], math.exp(5.1)) ** (1 / 7)
    levels = []
    for i in range(count):
        sigma = (high + (count - 1 - i) / (count - 1) * (low - high)) ** 7
        after = min(max(bisect.bisect_right(sigmas, sigma), 1), len(sigmas) - 1)
        before = after - 1
        weight = math.log(sigma / sigmas[before]) / math.log(sigmas[after] / sigmas[before])
        levels.append((sigma, before + weight))
    return levels


@pytest.mark.parametrize("schedule", [LINEAR, NoiseSchedule.cosine(1000), NoiseSchedule.linear(37)])
@pytest.mark.parametrize("count", [2, 18, 37])
def test_karras_levels_are_equation_5(schedule: NoiseSchedule, count: int) -> None:
    levels = visit_levels(schedule, KARRAS, count)
    sigmas, timesteps = zip(*karras(schedule.sigmas.tolist(), count), strict=True)
    # A chain keeps betas: over the widest leap of the cosine schedule, 1 - beta = 2.4e-9, seven digits survive.
    assert levels.chain.sigmas == pytest.approx(sigmas, rel=1e-9 if len(levels.chain.betas) > 2 else 1e-7)
    assert levels.timesteps == pytest.approx(timesteps, abs=1e-6)


@given(data=st.data(), total=st.integers(1, 300))
def test_karras_levels_span_the_schedule(data: st.DataObject, total: int) -> None:
    """The ends are the schedule's own, to the bit of the timestep; between them noise and timestep only rise."""
    schedule = NoiseSchedule.linear(total)
    start = data.draw(st.none() | st.integers(0, total - 1))
    last = total - 1 if start is None else start
    count = data.draw(st.integers(1, last + 1))
    levels = visit_levels(schedule, KARRAS, count, start=start)
    assert len(levels.timesteps) == levels.chain.num_train_timesteps == count
    assert levels.timesteps[-1] == last
    assert levels.chain.sigmas[-1] == pytest.approx(schedule.sigmas[last], rel=1e-9)
    assert all(earlier < later for earlier, later in itertools.pairwise(levels.timesteps))
    if count > 1:
        assert levels.timesteps[0] == 0
        assert levels.chain.sigmas[0] == pytest.approx(schedule.sigmas[0], rel=1e-9)


def test_a_karras_grid_wastes_no_level_where_nothing_of_the_image_is_left() -> None:
    """The cosine schedule ends at sigma 20,291, where eight of thirteen levels would lie beyond 80."""
    schedule = NoiseSchedule.cosine(1000)
    assert schedule.sigmas[-1] > 20_000
    sigmas = visit_levels(schedule, KARRAS, 13).chain.sigmas
    assert sigmas[-1] == pytest.approx(math.exp(5.1), rel=1e-9)
    assert (sigmas > 80).sum() == 2
    assert (visit_levels(schedule, KARRAS, 13, start=999).chain.sigmas == sigmas).all()
    assert visit_levels(schedule, KARRAS, 13, start=998).chain.sigmas[-1] == pytest.approx(schedule.sigmas[998])


@pytest.mark.parametrize("schedule", [LINEAR, NoiseSchedule.cosine(1000), ContinuousLinear.of(1000), Flow.of(1000)])
@pytest.mark.parametrize("count", [2, 10, 1000])
def test_exponential_levels_have_evenly_spaced_logarithms(schedule: NoiseSchedule, count: int) -> None:
    """But for the noisiest, which is the last timestep, where pure noise belongs."""
    levels = visit_levels(schedule, EXPONENTIAL, count)
    least, most = EXPONENTIAL_SIGMAS
    expected = [least * (most / least) ** (i / (count - 1)) for i in range(count - 1)]
    assert levels.chain.sigmas[:-1] == pytest.approx([max(each, schedule.sigmas[0]) for each in expected], rel=1e-6)
    assert schedule.sigma_at(np.array(levels.timesteps[:-1])) == pytest.approx(levels.chain.sigmas[:-1], rel=1e-6)
    assert levels.timesteps[-1] == 999
    assert (np.diff(levels.timesteps) > 0).all()


def test_a_list_visits_the_timesteps_that_it_names() -> None:
    plan = make_plan(LINEAR, sampler="dpmpp", steps=3, spacing="at:12.5,160,999")
    assert plan.timesteps == (999.0, 160.0, 12.5)
    whole = visit_levels(LINEAR, "at:19,39,59", 3)
    assert whole.chain.alphas_cumprod == pytest.approx(LINEAR.alphas_cumprod[[19, 39, 59]], rel=1e-12)
    between = visit_levels(LINEAR, "at:12.5", 1).chain.sigmas[0]
    assert between == pytest.approx(math.sqrt(LINEAR.sigmas[12] * LINEAR.sigmas[13]), rel=1e-12)  # linear in the log


def test_a_list_that_starts_in_the_middle_starts_there() -> None:
    assert visit_levels(LINEAR, "at:12.5,160,999", 3, start=400).timesteps == (12.5, 160.0, 400.0)


@pytest.mark.parametrize(
    ("spacing", "steps", "start", "message"),
    [
        ("at:12.5,160,999", 2, None, "must list the 2 noise levels of the run, got 3"),
        ("at:160,12.5", 2, None, "must list rising timesteps between 0 and 999"),
        ("at:160,160", 2, None, "must list rising timesteps between 0 and 999"),
        ("at:160,999.5", 2, None, "must list rising timesteps between 0 and 999"),
        ("at:160,999", 2, 100, "must list rising timesteps between 0 and 100"),
        ("at:", 1, None, "is not known"),
        ("at:12.1234567", 1, None, "is not known"),
        ("at:\u0661", 1, None, "is not known"),
    ],
)
def test_lists_that_cannot_be(spacing: str, steps: int, start: int | None, message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        visit_levels(LINEAR, spacing, steps, start=start)
    assert caught.value.parameter == "spacing"


def test_where_nothing_is_left_of_the_image_a_list_ends_there() -> None:
    schedule = LINEAR.rescale_zero_terminal_snr()
    assert np.array_equal(visit_levels(schedule, "at:10,999", 2).chain.alphas_cumprod == 0, [False, True])
    with pytest.raises(PlanError, match="spacing must end its list at 999, where"):
        visit_levels(schedule, "at:10,998", 2)


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [(name, Flow.of(1000)) for name in SAMPLERS if SAMPLERS[name].from_pure_noise]
    + [(name, ContinuousLinear.of(4000)) for name in SAMPLERS],
)
def test_two_levels_beside_the_end_are_a_run(sampler: str, schedule: NoiseSchedule) -> None:
    """Where less than an eps of the image is left, and then nothing."""
    last = schedule.num_train_timesteps - 1
    steps = SAMPLERS[sampler].calls(3)
    plan = make_plan(
        schedule, sampler=sampler, steps=steps, spacing=f"at:99,{last - 1}.999999,{last}", prediction="v", clip="static"
    )
    assert np.isfinite(plan.table).all()
