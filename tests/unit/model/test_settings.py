"""What a request leaves open is filled in by the model and by the sampler that was chosen."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from model.config import ModelConfig, SamplerDefaults, ScheduleConfig
from model.errors import PlanError
from model.networks.configs import UNetConfig
from model.plans.samplers import SAMPLERS
from model.plans.settings import Settings

DDIM = ModelConfig(UNetConfig(), defaults=SamplerDefaults("ddim", 50, "quad", 0.5))
OWN = Settings("ddim", 50, "quad", 0.5, "fixed_small", "static")
SHORT = dataclasses.replace(DDIM, schedule=ScheduleConfig(num_train_timesteps=20))
LEARNED = dataclasses.replace(DDIM, network=UNetConfig(out_channels=6), variance="learned_range")


@pytest.mark.parametrize(
    ("choices", "changed"),
    [
        ({}, {}),
        ({"sampler": None, "steps": None, "eta": None}, {}),
        ({"steps": 7}, {"steps": 7}),
        ({"sampler": "ddim", "eta": 0.0}, {"eta": 0.0}),
        ({"sampler": "ddpm"}, {"sampler": "ddpm", "eta": 0.0}),
        ({"sampler": "dpmpp"}, {"sampler": "dpmpp", "spacing": "trailing", "eta": 0.0}),
        ({"sampler": "euler"}, {"sampler": "euler", "spacing": "karras", "eta": 0.0}),
        ({"sampler": "heun", "spacing": "leading"}, {"sampler": "heun", "spacing": "leading", "eta": 0.0}),
        ({"spacing": "9,5"}, {"spacing": "9,5", "steps": 14}),
        ({"spacing": "9,5", "steps": 14}, {"spacing": "9,5", "steps": 14}),
        ({"sampler": "ddpm", "variance": "fixed_large"}, {"sampler": "ddpm", "eta": 0.0, "variance": "fixed_large"}),
        ({"clip": "none"}, {"clip": "none"}),
    ],
)
def test_what_is_left_open_is_filled_in(choices: dict[str, Any], changed: dict[str, Any]) -> None:
    assert DDIM.settle(**choices) == dataclasses.replace(OWN, **changed)


def test_a_run_has_at_most_as_many_steps_as_there_are_timesteps() -> None:
    assert SHORT.settle().steps == 20
    assert DDIM.settle(start=9).steps == 10
    assert DDIM.settle(start=9, steps=99).steps == 99  # what was asked for is refused by the plan, not changed


@pytest.mark.parametrize(
    ("config", "choices", "parameter", "reason"),
    [
        (
            DDIM,
            {"sampler": "plms"},
            "sampler",
            "'plms' is not known: choose one of ddpm, ddim, dpmpp, euler, consistency, heun",
        ),
        (DDIM, {"variance": "fixed_large"}, "variance", "is not a parameter of ddim"),
        (DDIM, {"sampler": "ddpm", "variance": "learned"}, "variance", "learned was not learned by this model, whose"),
        (LEARNED, {"sampler": "ddpm", "variance": "learned"}, "variance", "whose own variance is learned_range"),
        (SHORT, {"spacing": "20,5"}, "spacing", "sections must add up to between 1 and 20, got 25"),
        (DDIM, {"spacing": "0,0", "steps": 5}, "spacing", "sections must add up to between 1 and 1000, got 0"),
        (DDIM, {"spacing": "9,5", "steps": 15}, "steps", "must be 14, the sum of the sections, got 15"),
        (DDIM, {"sampler": "heun", "spacing": "9,5"}, "spacing", "cannot be in sections, which count network calls"),
    ],
)
def test_choices_that_contradict_are_refused_by_name(
    config: ModelConfig, choices: dict[str, Any], parameter: str, reason: str
) -> None:
    with pytest.raises(PlanError) as caught:
        config.settle(**choices)
    assert caught.value.parameter == parameter
    assert reason in str(caught.value)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_has_a_run_with_what_is_filled_in(sampler: str) -> None:
    plan = DDIM.plan(DDIM.schedule.build(), sampler=sampler, steps=9)
    assert len(plan) == 9
