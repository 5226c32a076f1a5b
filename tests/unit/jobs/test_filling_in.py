"""What a request leaves open is the model's choice, and what the model cannot do is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from difuso.jobs.catalog import Catalog, ModelInfo
from difuso.jobs.defaults import fill_in
from difuso.jobs.errors import RequestRefused
from difuso.jobs.params import SamplingParams
from difuso.jobs.per_image import DRAWN_SEEDS
from difuso.jobs.queries import SamplingQuery
from difuso.model.errors import PlanError
from difuso.model.folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from difuso.model.networks.configs import ClassifierConfig, UNetConfig
from difuso.model.plans.clipping import Clipping


def model(name: str = "pets", **changes: Any) -> ModelInfo:
    facts: dict[str, Any] = {
        "network": UNetConfig(),
        "image_size": 16,
        "classes": ("cat", "dog"),
        "defaults": SamplerDefaults(sampler="ddim", steps=50, spacing="leading", eta=0.5),
    }
    return ModelInfo(name, ModelConfig(**facts | changes), parameters=1, version="0" * 64)


MODEL = model()
PLAIN = model("plain", classes=None)
LARGE = model(variance="fixed_large")
LEARNED = model(variance="learned_range", clip=Clipping("dynamic"))
ZERO_SNR = model(prediction="v", schedule=ScheduleConfig(zero_terminal_snr=True))
CLASSIFIED = model("plain", classes=None, classifier=ClassifierConfig(num_classes=3))
ALWAYS_LABELLED = model(network=UNetConfig(null_class=False))
LIMITS: dict[str, Any] = {"guidance_scale": 2.5, "guidance_low": 0.2, "guidance_high": 3.0}
WEAKER: dict[str, Any] = {
    "weaker": UNetConfig(channels=32),
    "defaults": SamplerDefaults(guidance_scale=2.5),
    "plans": {"few": SamplerDefaults(steps=8, guidance_scale=1.5)},
}
GUIDED = model("plain", classes=None, **WEAKER)
GUIDED_IN_CLASSES = model(network=UNetConfig(null_class=False), **WEAKER)
LIMITED = model("plain", classes=None, weaker=UNetConfig(channels=32), defaults=SamplerDefaults(**LIMITS))


def filled(query: SamplingQuery, model: ModelInfo, *, start: int | None = None) -> SamplingParams:
    return fill_in(query, model, start=start).params


def test_what_is_left_open_is_the_models_choice() -> None:
    params = filled(SamplingQuery(), MODEL)
    assert params.model_dump(exclude={"seed"}) == {
        "n": 1,
        "steps": 50,
        "sampler": "ddim",
        "spacing": "leading",
        "eta": 0.5,
        "variance": "fixed_small",
        "clip": "static",
        "label": None,
        "guidance_scale": 1.0,
        "classifier_scale": 0.0,
    }
    assert 0 <= params.seed_of(0) < DRAWN_SEEDS


def test_a_plan_of_the_model_replaces_its_defaults() -> None:
    planned = model(plans={"few": SamplerDefaults("dpmpp", 3, "at:12.5,160,999")})
    params = filled(SamplingQuery(plan="few"), planned)
    assert (params.sampler, params.steps, params.spacing, params.eta) == ("dpmpp", 3, "at:12.5,160,999", 0.0)
    assert filled(SamplingQuery.model_validate({"plan": "few", "steps": 7}), planned).spacing == "exponential"
    assert filled(SamplingQuery(), planned).steps == 50
    with pytest.raises(PlanError, match="plan must be omitted"):
        filled(SamplingQuery(plan="few"), MODEL)


def test_what_is_not_guided_has_no_interval() -> None:
    for scale, start in ((1.0, None), (None, 499)):
        params = filled(SamplingQuery.model_validate({"guidance_scale": scale}), LIMITED, start=start)
        assert (params.guidance_scale, params.guidance_low, params.guidance_high) == (1.0, None, None)
    assert filled(SamplingQuery.model_validate({"guidance_scale": 2.0}), LIMITED, start=499).guidance_low == 0.2


@pytest.mark.parametrize(
    ("asked", "model", "said"),
    [
        ({"guidance_low": 0.2}, PLAIN, "guidance_low: Input should be omitted: plain has no classes"),
        (
            {"guidance_low": 0.2, "label": "cat"},
            ALWAYS_LABELLED,
            "guidance_low: Input should be omitted: pets was not trained without labels",
        ),
        ({"guidance_low": 0.2, "label": "cat"}, MODEL, "guidance_low needs a guidance_scale other than 1"),
        ({"guidance_high": 0.1}, LIMITED, "guidance_high must be greater than guidance_low, 0.2, got 0.1"),
    ],
)
def test_an_interval_that_has_no_meaning_is_refused_with_the_reason(
    asked: dict[str, Any], model: ModelInfo, said: str
) -> None:
    with pytest.raises((RequestRefused, PlanError)) as caught:
        filled(SamplingQuery(**asked), model)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("name", "value"), [("guidance_low", "nan"), ("guidance_high", "inf"), ("guidance_low", "-0.1")]
)
def test_an_end_of_the_interval_is_a_noise_level(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name):
        SamplingQuery.model_validate({name: value})


def test_a_seed_is_drawn_anew_each_time_but_the_request_is_the_same() -> None:
    query = SamplingQuery(n=2)
    assert filled(query, MODEL).seed != filled(query, MODEL).seed
    assert query.request_hash("generate") == SamplingQuery(n=2).request_hash("generate")
    assert query.request_hash("generate") != SamplingQuery(n=2, seed=[1]).request_hash("generate")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"sampler": "dpmpp"}, {"spacing": "exponential", "eta": 0.0}),
        ({"sampler": "dpmpp", "spacing": "linspace"}, {"spacing": "linspace"}),
        ({"sampler": "ddpm"}, {"spacing": "leading", "eta": 0.0}),
        ({"sampler": "ddpm", "eta": 0.0}, {"eta": 0.0}),
        ({"label": "dog", "guidance_scale": 3.0}, {"label": 1, "guidance_scale": 3.0}),
        ({"label": "0"}, {"label": 0, "guidance_scale": 1.0}),
        ({"sampler": "heun"}, {"spacing": "karras"}),
        ({"spacing": "at:12.5,160,999"}, {"steps": 3, "spacing": "at:12.5,160,999"}),
        ({"clip": "none"}, {"clip": "none"}),
    ],
)
def test_what_is_asked_for_decides_the_rest(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    params = filled(SamplingQuery(**asked), MODEL)
    assert params.model_dump(include=set(expected)) == expected


@pytest.mark.parametrize(
    ("asked", "model", "parameter"),
    [
        ({"steps": 1001}, MODEL, "steps"),
        ({"steps": 499, "sampler": "ddpm"}, LARGE, "steps"),
        ({"eta": 0.1, "sampler": "ddpm"}, MODEL, "eta"),
        ({"label": "bird"}, MODEL, "label"),
        ({"label": "cat"}, PLAIN, "label"),
        ({"guidance_scale": 2.0}, PLAIN, "guidance_scale"),
        ({"guidance_scale": 2.0}, MODEL, "guidance_scale"),
        ({"spacing": "at:20,30", "steps": 3}, MODEL, "steps"),
        ({"variance": "fixed_large"}, MODEL, "variance"),
        ({"variance": "learned_range", "sampler": "ddpm"}, MODEL, "variance"),
        ({"sampler": "heun"}, ZERO_SNR, "sampler"),
        ({"spacing": "leading"}, ZERO_SNR, "spacing"),
        ({}, ALWAYS_LABELLED, "label"),
        ({"label": "cat", "guidance_scale": 2.0}, ALWAYS_LABELLED, "guidance_scale"),
        ({"classifier_scale": 1.0, "label": "cat"}, MODEL, "classifier_scale"),
        ({"classifier_scale": 1.0}, CLASSIFIED, "classifier_scale"),
        ({"label": "3"}, CLASSIFIED, "label"),
        ({"guidance_scale": 2.0, "guidance_low": 0.2}, PLAIN, "guidance_scale"),
        ({"guidance_high": 3.0, "label": "cat"}, ALWAYS_LABELLED, "guidance_high"),
        ({"guidance_high": 3.0, "guidance_scale": 1.0}, GUIDED, "guidance_high"),
        ({"guidance_low": 3.0}, LIMITED, "guidance_high"),
    ],
)
def test_what_the_model_cannot_do_names_the_parameter(asked: dict[str, Any], model: ModelInfo, parameter: str) -> None:
    with pytest.raises((RequestRefused, PlanError)) as caught:
        filled(SamplingQuery(**asked), model)
    assert isinstance(caught.value, RequestRefused | PlanError)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    ("asked", "model", "expected"),
    [
        ({"sampler": "ddpm", "steps": 10, "variance": "fixed_small"}, LARGE, {"variance": "fixed_small", "steps": 10}),
        ({"sampler": "ddim", "steps": 10}, LARGE, {"variance": "fixed_large"}),
        ({"sampler": "ddpm"}, LEARNED, {"variance": "learned_range", "clip": "dynamic"}),
        ({"spacing": "trailing"}, ZERO_SNR, {"spacing": "trailing"}),
        ({"label": "2"}, CLASSIFIED, {"label": 2, "classifier_scale": 1.0}),
        ({"label": "2", "classifier_scale": 0.0}, CLASSIFIED, {"classifier_scale": 0.0}),
        ({"label": "cat"}, ALWAYS_LABELLED, {"label": 0, "guidance_scale": 1.0}),
        ({}, GUIDED, {"guidance_scale": 2.5}),
        ({"plan": "few"}, GUIDED, {"guidance_scale": 1.5}),
        ({"guidance_scale": 1.0}, GUIDED, {"guidance_scale": 1.0}),
        ({"label": "cat"}, GUIDED_IN_CLASSES, {"label": 0, "guidance_scale": 2.5}),
        ({}, LIMITED, LIMITS),
        ({"guidance_scale": 4.0}, LIMITED, LIMITS | {"guidance_scale": 4.0}),
        ({"guidance_high": 1e6}, LIMITED, LIMITS | {"guidance_high": 1e6}),
        ({"guidance_low": 0.5}, GUIDED, {"guidance_scale": 2.5, "guidance_low": 0.5}),
    ],
)
def test_what_the_model_is_decides_the_rest(asked: dict[str, Any], model: ModelInfo, expected: dict[str, Any]) -> None:
    params = filled(SamplingQuery(**asked), model)
    assert params.model_dump(include=set(expected)) == expected
    again = SamplingQuery(**params.model_dump(exclude={"label"}), label=asked.get("label"))
    assert filled(again, model) == params  # as a job shows its parameters, they can be sent back


def test_a_model_is_found_by_name_or_is_the_first() -> None:
    catalog = Catalog({"plain": (PLAIN,), "pets": (MODEL,)}, {"broken": "config.json is missing"})
    assert catalog.choose(None) is MODEL
    assert catalog.choose("plain") is PLAIN
    for name in ("broken", "../pets", "PETS"):
        with pytest.raises(RequestRefused, match=r"^model: "):
            catalog.choose(name)
    with pytest.raises(RequestRefused, match=r"^model: "):
        Catalog({}, {}).choose(None)
