"""What a request leaves open is filled in by the model and by the sampler that was chosen."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from difuso.model.errors import PlanError
from difuso.model.folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from difuso.model.networks.configs import UNetConfig
from difuso.model.plans.settings import Settings

DDIM = ModelConfig(UNetConfig(), defaults=SamplerDefaults("ddim", 50, "quad", 0.5))
OWN = Settings("ddim", 50, "quad", 0.5)
SHORT = dataclasses.replace(DDIM, schedule=ScheduleConfig(num_train_timesteps=20))
LIST = "at:20.5,300,700,999"
TUNED = dataclasses.replace(
    DDIM, defaults=SamplerDefaults("ddim", 4, LIST, 0.3), plans={"two": SamplerDefaults("dpmpp", 2, "at:300,999")}
)
LEARNED = dataclasses.replace(DDIM, network=UNetConfig(out_channels=6), variance="learned_range")


@pytest.mark.parametrize(
    ("choices", "changed"),
    [
        ({}, {}),
        ({"sampler": None, "steps": None, "eta": None}, {}),
        ({"steps": 7}, {"steps": 7}),
        ({"sampler": "ddim", "eta": 0.0}, {"eta": 0.0}),
        ({"sampler": "ddpm"}, {"sampler": "ddpm", "eta": 0.0}),
        ({"sampler": "dpmpp"}, {"sampler": "dpmpp", "spacing": "exponential", "eta": 0.0}),
        ({"sampler": "euler"}, {"sampler": "euler", "spacing": "karras", "eta": 0.0}),
        ({"sampler": "heun", "spacing": "leading"}, {"sampler": "heun", "spacing": "leading", "eta": 0.0}),
        ({"sampler": "ddpm", "variance": "fixed_large"}, {"sampler": "ddpm", "eta": 0.0, "variance": "fixed_large"}),
        ({"clip": "none"}, {"clip": "none"}),
    ],
)
def test_what_is_left_open_is_filled_in(choices: dict[str, Any], changed: dict[str, Any]) -> None:
    assert DDIM.settle(**choices) == dataclasses.replace(OWN, **changed)


def test_runs_that_begin_at_an_image_take_at_most_eta_1_from_the_model() -> None:
    """More forgets the image; whoever asks for it gets it."""
    noisy = dataclasses.replace(DDIM, defaults=SamplerDefaults("dpmpp", 50, "trailing", 3.0))
    assert noisy.settle().eta == 3.0
    assert noisy.settle(start=400).eta == 1.0
    assert noisy.settle(start=400, eta=2.0).eta == 2.0
    assert noisy.settle(start=400, sampler="ddim").eta == 0.0


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, ("ddim", 4, LIST, 0.3)),
        ({"steps": 4, "eta": 0.0}, ("ddim", 4, LIST, 0.0)),
        ({"steps": 9}, ("ddim", 9, "trailing", 0.3)),
        ({"sampler": "ddpm"}, ("ddpm", 4, "trailing", 0.0)),
        ({"sampler": "heun"}, ("heun", 4, "karras", 0.0)),
        ({"start": 999}, ("ddim", 4, LIST, 0.3)),
        ({"start": 998}, ("ddim", 4, "trailing", 0.3)),
        ({"plan": "two"}, ("dpmpp", 2, "at:300,999", 0.0)),
        ({"plan": "two", "steps": 5}, ("dpmpp", 5, "exponential", 0.0)),
        ({"spacing": "at:1,2,3"}, ("ddim", 3, "at:1,2,3", 0.3)),
    ],
)
def test_a_list_of_timesteps_is_of_its_own_sampler_and_steps(
    choices: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    settings = TUNED.settle(**choices)
    assert (settings.sampler, settings.steps, settings.spacing, settings.eta) == expected


def test_a_list_that_does_not_fit_into_a_run_is_spaced_as_suits_the_sampler() -> None:
    config = dataclasses.replace(DDIM, defaults=SamplerDefaults("ddim", 3, "at:5,20.2,20.5"))
    assert config.settle(start=20).spacing == "trailing"
    assert len(config.plan(config.schedule.build(), start=20)) == 3


def test_a_plan_that_a_model_does_not_have() -> None:
    for config, reason in ((TUNED, "plan must be one of two"), (DDIM, "plan must be omitted: this model has none")):
        with pytest.raises(PlanError, match=reason) as caught:
            config.settle(plan="three")
        assert caught.value.parameter == "plan"


def test_a_run_has_at_most_as_many_steps_as_there_are_timesteps() -> None:
    assert SHORT.settle().steps == 20
    assert DDIM.settle(start=9).steps == 10
    assert DDIM.settle(start=9, steps=99).steps == 99  # what was asked for is refused by the plan, not changed


@pytest.mark.parametrize(
    ("config", "choices", "parameter", "reason"),
    [
        (
            DDIM,
            {"sampler": "dpm"},
            "sampler",
            "'dpm' is not known: choose one of ddpm, ddim, dpmpp, dpmpp_sde, ",
        ),
        (DDIM, {"variance": "fixed_large"}, "variance", "is not a parameter of ddim"),
        (DDIM, {"sampler": "ddpm", "variance": "learned"}, "variance", "learned was not learned by this model, whose"),
        (LEARNED, {"sampler": "ddpm", "variance": "learned"}, "variance", "whose own variance is learned_range"),
        (DDIM, {"spacing": "at:9,50", "steps": 3}, "steps", "must be 2, the length of the list, got 3"),
    ],
)
def test_choices_that_contradict_are_refused_by_name(
    config: ModelConfig, choices: dict[str, Any], parameter: str, reason: str
) -> None:
    with pytest.raises(PlanError) as caught:
        config.plan(config.schedule.build(), **choices)
    assert caught.value.parameter == parameter
    assert reason in str(caught.value)


def test_a_list_has_as_many_steps_as_its_sampler_makes_calls() -> None:
    """Heun's method calls at all levels but the noisiest twice, and none is made where a run ends at a noise level."""
    for sampler, spacing, calls in (
        ("ddim", "at:9,50,90", 3),
        ("heun", "at:9,50,90", 5),
        ("plms", "at:9,50,90", 4),
        ("ddim", "at:end@0.01,9@0.05,50,90", 3),
        ("plms", "at:end@0.01,9@0.05,50,90", 4),
    ):
        assert DDIM.settle(sampler=sampler, spacing=spacing).steps == calls
        assert len(DDIM.plan(DDIM.schedule.build(), sampler=sampler, spacing=spacing)) == calls
