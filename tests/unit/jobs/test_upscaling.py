"""Requests for enlarged images: which models they may name, what they mean, and what they cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from difuso.jobs.cascade import SEED_OFFSET, enlarging_seed
from difuso.jobs.catalog import Catalog, ModelInfo
from difuso.jobs.contract import Job, new_job
from difuso.jobs.errors import RequestRefused
from difuso.jobs.image_recipe import job_of, recipe
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import Kind
from difuso.jobs.params import MAX_SEED
from difuso.model.conditions import Number
from difuso.model.folders.config import ConditionConfig, ModelConfig, SamplerDefaults
from difuso.model.networks.configs import UNetConfig

CONDITION = ConditionConfig(size=8, max_augmentation=0.5, augmentation=0.1)
SMALL = ModelInfo("small", ModelConfig(UNetConfig(), image_size=8), 0, "0" * 64)
GREY = ModelInfo("grey", ModelConfig(UNetConfig(in_channels=1, out_channels=1), image_size=8, channels=1), 0, "0" * 64)
CONFIG = ModelConfig(
    UNetConfig(condition_channels=3),
    image_size=24,
    condition=CONDITION,
    defaults=SamplerDefaults("ddim", 3, "trailing"),
)
UP = ModelInfo("a-first-name", CONFIG, 0, "0" * 64)
CATALOG = Catalog({model.name: (model,) for model in (UP, GREY, SMALL)}, {"torn": "it is torn"})
GENERATE, UPSCALE = KINDS["generate"], KINDS["upscale"]


def prepared(kind: Kind[Any], **sent: Any) -> Any:
    query = kind.query.model_validate(sent)
    return kind.prepare(query, kind.choose(query, CATALOG), {})


def cascade(**sent: Any) -> Job:
    query: dict[str, Any] = {"model": "small", "upscale": UP.name, "seed": 7, "steps": 5} | sent
    return new_job(query["model"], prepared(GENERATE, **query))


def test_a_conditional_model_is_the_default_of_upscale_only() -> None:
    assert CATALOG.default == "grey"
    query = UPSCALE.query.model_validate({})
    assert UPSCALE.choose(query, CATALOG) is UP
    assert Catalog({UP.name: (UP,)}, {}).default is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind is not UPSCALE], ids=lambda kind: kind.name)
def test_other_kinds_refuse_a_conditional_model(kind: Kind[Any]) -> None:
    query = kind.query.model_construct(model=UP.name)
    with pytest.raises(RequestRefused, match="model: This model draws from an image: send one to /upscale"):
        kind.choose(query, CATALOG)


def test_upscale_refuses_other_models_and_names_those_that_it_takes() -> None:
    with pytest.raises(RequestRefused, match="model: Input should be a model that draws from an image: a-first-name"):
        prepared(UPSCALE, model="small")
    with pytest.raises(RequestRefused, match="This server has no model that draws from an image"):
        UPSCALE.choose(UPSCALE.query.model_validate({}), Catalog({"small": (SMALL,)}, {}))


def test_augmentation_is_the_model_s_unless_it_is_sent_and_no_more_than_it_knows() -> None:
    assert prepared(UPSCALE).task.augmentation == 0.1
    assert prepared(UPSCALE, augmentation=0.0).task.augmentation == 0.0
    with pytest.raises(RequestRefused, match=r"augmentation: Input should be at most 0\.5"):
        prepared(UPSCALE, augmentation=0.6)


def test_a_cascade_is_filled_in_by_both_models() -> None:
    job = cascade(n=2)
    assert (job.model, job.params.steps) == ("small", 5)
    stage = job.task.second_stage
    assert stage is not None
    assert (stage.model, stage.steps, stage.sampler, stage.spacing) == (UP.name, 3, "ddim", "trailing")
    assert stage.augmentation == 0.1
    assert job.models == ("small", UP.name)
    assert Job.decode(job.model_dump(mode="json")) == job


def test_an_image_step_of_the_second_stage_counts_as_the_pixels_of_its_image() -> None:
    """24x24 is nine times 8x8."""
    assert cascade(n=2, upscale_steps=4).image_steps == 2 * 5 + 2 * 4 * 9


def test_seeds_of_second_stages_are_other_seeds_and_all_differ() -> None:
    assert enlarging_seed(7) == 7 + SEED_OFFSET
    seeds = (0, 1, 2**32, SEED_OFFSET - 1, SEED_OFFSET, MAX_SEED)
    assert all(0 <= enlarging_seed(seed) <= MAX_SEED and enlarging_seed(seed) != seed for seed in seeds)
    assert len({enlarging_seed(seed) for seed in seeds}) == len(seeds)
    assert [enlarging_seed(enlarging_seed(seed)) for seed in seeds] == list(seeds)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"model": "grey"}, "upscale: Input should be a model that enlarges 8x8x1, the size of grey"),
        ({"upscale_augmentation": 0.9}, r"upscale_augmentation: Input should be at most 0\.5"),
        ({"upscale_steps": 2000}, "upscale_steps: "),
        ({"trace": ["last"]}, "trace: Input should be omitted with upscale"),
    ],
)
def test_a_cascade_that_cannot_run_is_refused(sent: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        cascade(**sent)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"upscale": "small"}, "upscale: Input should be a model that draws from an image"),
        ({"upscale": "none"}, "upscale: Input should be one of"),
        ({"upscale": "torn"}, "upscale: This model cannot be used: it is torn"),
        ({"upscale_steps": 3}, "upscale_steps: This needs upscale"),
        ({"upscale_augmentation": 0.0}, "upscale_augmentation: This needs upscale"),
    ],
)
def test_the_second_model_must_be_one_that_enlarges(sent: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        prepared(GENERATE, model="small", **sent)


def test_an_upscaler_that_needs_a_condition_cannot_be_a_second_stage() -> None:
    """One that may be left out is, as the second stage has no conditions."""

    def stage(age: Number) -> Any:
        up = ModelInfo("up", dataclasses.replace(CONFIG, conditions={"age": age}), 0, "0" * 64)
        query = GENERATE.query.model_validate({"upscale": "up"})
        model = GENERATE.choose(query, Catalog({"small": (SMALL,), "up": (up,)}, {}))
        return GENERATE.prepare(query, model, {}).task.second_stage

    with pytest.raises(RequestRefused, match="needs no class and no condition: up needs age"):
        stage(Number(0, 100))
    assert stage(Number(0, 100, null=True)).model == "up"


def test_the_recipe_of_a_cascade_makes_its_job_again() -> None:
    job = cascade(n=2)
    facts = recipe(job, 1, model="small", version="ab", timesteps=(9, 0), upscaler_version="cd" * 32)
    assert facts["upscaler_version"] == "cd" * 32
    again = job_of(facts)
    assert again.task == job.task
    assert (again.params.n, again.params.seed) == (1, 8)
