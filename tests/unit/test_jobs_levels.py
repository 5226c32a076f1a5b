"""The noise levels that front ends know without torch are those of the science."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from jobs.levels import GREY_LEVEL, ScheduleFacts, enter_at, noise_levels
from model import NoiseSchedule, PlanError
from model.config import ScheduleConfig
from model.plans.noise_level import noise_level

SCHEDULES: list[dict[str, Any]] = [
    {},
    {"num_train_timesteps": 1},
    {"num_train_timesteps": 2},
    {"num_train_timesteps": 10},
    {"num_train_timesteps": 4000, "beta_start": 2.5e-5, "beta_end": 0.005},
    {"type": "scaled_linear"},
    {"type": "scaled_linear", "num_train_timesteps": 50, "beta_start": 0.001, "beta_end": 0.2},
    {"type": "cosine"},
    {"type": "cosine", "num_train_timesteps": 7},
    {"type": "cosine", "num_train_timesteps": 4000},
    {"zero_terminal_snr": True},
    {"type": "scaled_linear", "zero_terminal_snr": True},
    {"type": "cosine", "num_train_timesteps": 30, "zero_terminal_snr": True},
    {"num_train_timesteps": 10, "zero_terminal_snr": True},
]


def both(fields: dict[str, Any]) -> tuple[ScheduleFacts, NoiseSchedule]:
    config = ScheduleConfig(**fields)
    return ScheduleFacts(**asdict(config)), config.build()


@pytest.mark.parametrize("fields", SCHEDULES, ids=str)
def test_the_levels_are_those_of_the_science(fields: dict[str, Any]) -> None:
    facts, schedule = both(fields)
    np.testing.assert_allclose(noise_levels(facts), schedule.sigmas, rtol=1e-9)


@pytest.mark.parametrize("fields", SCHEDULES, ids=str)
def test_a_picture_enters_where_the_science_lets_it_enter(fields: dict[str, Any]) -> None:
    facts, schedule = both(fields)
    entered = set()
    for sigma in [0.0, *np.geomspace(0.1, 25_500, 300)]:
        found = enter_at(facts, float(sigma))
        entered.add(found)
        if found is None:
            with pytest.raises(PlanError):
                noise_level(schedule, float(sigma) * GREY_LEVEL)
        else:
            assert noise_level(schedule, float(sigma) * GREY_LEVEL).timestep == found
    assert len(entered) > 1


@pytest.mark.parametrize("fields", SCHEDULES, ids=str)
def test_what_a_front_end_says_of_a_timestep_is_accepted_there(fields: dict[str, Any]) -> None:
    """It tells sigma in grey levels; what is lost on the way must not make it too much."""
    facts, schedule = both(fields)
    for timestep, sigma in enumerate(noise_levels(facts)):
        if np.isfinite(sigma):
            assert noise_level(schedule, sigma / GREY_LEVEL * GREY_LEVEL, timestep).top_up < 1e-4 * sigma
