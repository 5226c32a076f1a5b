from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.admission import admit, check_served, job_timeout
from app.errors import InvalidRequest, ModelUnavailable, Overloaded
from app.parameters import DRAWN_SEEDS, FIXED_LARGE_MIN_STEPS, SamplingQuery, choose_model, fill_in
from jobs.catalog import Catalog, ModelInfo, SamplerDefaults
from jobs.contract import JobKind, ModelReport
from jobs.levels import ScheduleFacts
from jobs.queue import Backlog

MODEL = ModelInfo(
    name="pets",
    image_size=16,
    channels=3,
    schedule=ScheduleFacts(num_train_timesteps=1000),
    prediction="eps",
    variance="fixed_small",
    classes=("cat", "dog"),
    defaults=SamplerDefaults(sampler="ddim", steps=50, spacing="leading", eta=0.5),
    parameters=1,
    sha256="0" * 64,
)
PLAIN = replace(MODEL, name="plain", classes=None)
LARGE = replace(MODEL, variance="fixed_large")
LEARNED = replace(MODEL, variance="learned_range", clip="dynamic")
ZERO_SNR = replace(MODEL, schedule=ScheduleFacts(num_train_timesteps=1000, zero_terminal_snr=True))
CLASSIFIED = replace(PLAIN, classifier_classes=3)
ALWAYS_LABELLED = replace(MODEL, label_required=True)


def test_what_is_left_open_is_the_models_choice() -> None:
    params = fill_in(SamplingQuery(), MODEL)
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
    assert 0 <= params.seed < DRAWN_SEEDS


def test_a_seed_is_drawn_anew_each_time_but_the_request_is_the_same() -> None:
    query = SamplingQuery(n=2)
    assert fill_in(query, MODEL).seed != fill_in(query, MODEL).seed
    assert query.request_hash(JobKind.GENERATE) == SamplingQuery(n=2).request_hash(JobKind.GENERATE)
    assert query.request_hash(JobKind.GENERATE) != SamplingQuery(n=2, seed=1).request_hash(JobKind.GENERATE)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"sampler": "dpmpp"}, {"spacing": "trailing", "eta": 0.0}),
        ({"sampler": "dpmpp", "spacing": "linspace"}, {"spacing": "linspace"}),
        ({"sampler": "ddpm"}, {"spacing": "leading", "eta": 0.0}),
        ({"sampler": "ddpm", "eta": 0.0}, {"eta": 0.0}),
        ({"eta": 1.0}, {"eta": 1.0}),
        ({"steps": 1000}, {"steps": 1000}),
        ({"label": "dog", "guidance_scale": 3.0}, {"label": 1, "guidance_scale": 3.0}),
        ({"label": "0"}, {"label": 0, "guidance_scale": 1.0}),
        ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
        ({"sampler": "heun"}, {"spacing": "karras"}),
        ({"sampler": "euler"}, {"spacing": "karras"}),
        ({"spacing": "90,60,60,20,20"}, {"steps": 250, "spacing": "90,60,60,20,20"}),
        ({"spacing": "30,20", "steps": 50}, {"steps": 50}),
        ({"clip": "none"}, {"clip": "none"}),
        ({"sampler": "ddpm", "variance": "fixed_small"}, {"variance": "fixed_small"}),
    ],
)
def test_what_is_asked_for_decides_the_rest(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    params = fill_in(SamplingQuery(**asked), MODEL)
    assert params.model_dump(include=set(expected)) == expected


@pytest.mark.parametrize(
    ("asked", "model", "parameter"),
    [
        ({"steps": 1001}, MODEL, "steps"),
        ({"steps": 499, "sampler": "ddpm"}, replace(MODEL, variance="fixed_large"), "steps"),
        ({"eta": 0.1, "sampler": "ddpm"}, MODEL, "eta"),
        ({"label": "bird"}, MODEL, "label"),
        ({"label": "2"}, MODEL, "label"),
        ({"label": "\u00b2"}, MODEL, "label"),
        ({"label": "cat"}, PLAIN, "label"),
        ({"guidance_scale": 2.0}, PLAIN, "guidance_scale"),
        ({"guidance_scale": 2.0}, MODEL, "guidance_scale"),
        ({"spacing": "30,20", "steps": 51}, MODEL, "steps"),
        ({"spacing": "501,1"}, MODEL, "spacing"),
        ({"spacing": "10,10", "sampler": "heun"}, MODEL, "spacing"),
        ({"spacing": "0,5"}, MODEL, "spacing"),
        ({"variance": "fixed_large"}, MODEL, "variance"),
        ({"variance": "learned_range", "sampler": "ddpm"}, MODEL, "variance"),
        ({"sampler": "heun"}, ZERO_SNR, "sampler"),
        ({"spacing": "leading"}, ZERO_SNR, "spacing"),
        ({"spacing": "karras"}, ZERO_SNR, "spacing"),
        ({"spacing": "linspace", "steps": 1}, ZERO_SNR, "spacing"),
        ({}, ALWAYS_LABELLED, "label"),
        ({"label": "cat", "guidance_scale": 2.0}, ALWAYS_LABELLED, "guidance_scale"),
        ({"classifier_scale": 1.0, "label": "cat"}, MODEL, "classifier_scale"),
        ({"classifier_scale": 1.0}, CLASSIFIED, "classifier_scale"),
        ({"label": "3"}, CLASSIFIED, "label"),
    ],
)
def test_what_the_model_cannot_do_names_the_parameter(asked: dict[str, Any], model: ModelInfo, parameter: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fill_in(SamplingQuery(**asked), model)
    assert caught.value.name == parameter


@pytest.mark.parametrize(
    ("asked", "model", "expected"),
    [
        ({"sampler": "ddpm", "steps": 10, "variance": "fixed_small"}, LARGE, {"variance": "fixed_small", "steps": 10}),
        ({"sampler": "ddim", "steps": 10}, LARGE, {"variance": "fixed_large"}),
        ({"sampler": "ddpm"}, LEARNED, {"variance": "learned_range", "clip": "dynamic"}),
        ({"sampler": "ddpm", "variance": "fixed_small"}, LEARNED, {"variance": "fixed_small"}),
        ({"spacing": "trailing"}, ZERO_SNR, {"spacing": "trailing"}),
        ({"label": "2"}, CLASSIFIED, {"label": 2, "classifier_scale": 1.0}),
        ({"label": "2", "classifier_scale": 0.0}, CLASSIFIED, {"classifier_scale": 0.0}),
        ({"label": "cat"}, ALWAYS_LABELLED, {"label": 0, "guidance_scale": 1.0}),
    ],
)
def test_what_the_model_is_decides_the_rest(asked: dict[str, Any], model: ModelInfo, expected: dict[str, Any]) -> None:
    params = fill_in(SamplingQuery(**asked), model)
    assert params.model_dump(include=set(expected)) == expected
    again = SamplingQuery(**params.model_dump(exclude={"label"}), label=asked.get("label"))
    assert fill_in(again, model) == params  # as a job shows its parameters, they can be sent back


def test_the_least_steps_of_fixed_large_are_the_models() -> None:
    from model.plans.plan import FIXED_LARGE_MIN_STEPS as MODELS

    assert FIXED_LARGE_MIN_STEPS == MODELS
    assert fill_in(SamplingQuery(steps=500, sampler="ddpm"), replace(MODEL, variance="fixed_large")).steps == 500


def test_a_model_is_found_by_name_or_is_the_first() -> None:
    catalog = Catalog({"plain": PLAIN, "pets": MODEL}, {"broken": "config.json is missing"})
    assert choose_model(None, catalog) is MODEL
    assert choose_model("plain", catalog) is PLAIN
    for name in ("broken", "../pets", "PETS"):
        with pytest.raises(InvalidRequest):
            choose_model(name, catalog)
    with pytest.raises(InvalidRequest):
        choose_model(None, Catalog({}, {}))


def test_too_much_waiting_work_is_refused_until_it_is_short_enough() -> None:
    admit(Backlog(image_steps=6000, jobs=5, rate=10.0), max_wait=600, max_jobs=10)
    with pytest.raises(Overloaded) as caught:
        admit(Backlog(image_steps=7000, jobs=5, rate=10.0), max_wait=600, max_jobs=10)
    assert caught.value.retry_after == 100


def test_the_number_of_jobs_is_limited_without_a_known_rate_too() -> None:
    admit(Backlog(image_steps=10**9, jobs=9, rate=None), max_wait=600, max_jobs=10)
    with pytest.raises(Overloaded) as caught:
        admit(Backlog(image_steps=10, jobs=10, rate=None), max_wait=600, max_jobs=10)
    assert caught.value.retry_after


def test_only_a_model_that_every_worker_refuses_is_unavailable() -> None:
    refused, loading, ready = (
        ModelReport(ready=False, reason="weights damaged"),
        ModelReport(ready=False),
        ModelReport(ready=True),
    )
    for reports in ([], [loading], [refused, loading], [refused, ready]):
        check_served("pets", reports)
    with pytest.raises(ModelUnavailable, match="weights damaged"):
        check_served("pets", [refused, refused])


def test_a_job_has_time_for_its_own_work_and_what_was_before_it() -> None:
    assert job_timeout(10, max_wait=60) == 600
    assert job_timeout(64 * 1000, max_wait=600) == 64_600
