"""The conditions of a picture that comes without any: when they are looked for, what is tried, which example it is."""

from __future__ import annotations

from typing import Any

import pytest

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.contract import Job, new_job
from difuso.jobs.cost import cost_of
from difuso.jobs.errors import RequestRefused
from difuso.jobs.image_recipe import recipe
from difuso.jobs.images.fitting import Fitted
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import FromPicture, Prepared
from difuso.jobs.nearest import MOST_PROBES, least_depth, nearest, probes_of
from difuso.model.conditions import Choice, Image, Number, vector_size
from difuso.model.folders.config import ModelConfig
from difuso.model.networks.configs import UNetConfig
from difuso.model.plans.schedule import NoiseSchedule

COLOURS = tuple(f"colour {each}" for each in range(200))
CONDITIONS = {
    "age": Number(0, 100, null=True),
    "colour": Choice(COLOURS, null=True),
    "hair": Choice(("short", "afro"), null=True),
    "sketch": Image(1, 8, null=True),
}
EXAMPLES: dict[str, Any] = {
    "age": (20.0, 30.5, 40.0),
    "colour": ("colour 1", "colour 1", "colour 2"),
    "hair": ("short", "afro", "short"),
}


def model(**fields: Any) -> ModelInfo:
    network = UNetConfig(vector_size=vector_size(CONDITIONS), condition_channels=2)
    facts = {"conditions": CONDITIONS, "examples": EXAMPLES} | fields
    return ModelInfo("faces", ModelConfig(network, image_size=8, **facts), parameters=1, version="0" * 64)


MODEL, WITHOUT = model(), model(examples={})
PICTURE = Fitted(b"a picture", 8, 8)


def prepared(kind: str = "denoise", of: ModelInfo = MODEL, *, files: tuple[str, ...] = (), **query: Any) -> Prepared:
    images = dict.fromkeys(("image", *files, *(["mask"] if query.get("task") == "inpaint" else [])), PICTURE)
    return KINDS[kind].prepare(KINDS[kind].query.model_validate(query), of, images)


def probes(*of: Any, **query: Any) -> int:
    task = prepared(*of, **query).task
    assert isinstance(task, FromPicture)
    return task.probes


def test_conditions_are_looked_for_where_little_is_left_of_a_clean_picture() -> None:
    """Of more, and of a picture whose noise is its own, the picture itself says more than values that may be wrong."""
    least = (least_depth(MODEL.schedule) + 1) / 1000
    assert [probes(strength=each) for each in (0.3, least - 0.002, least, 0.9)] == [0, 0, 7, 7]
    assert [probes(**each) for each in ({"sigma": 700.0}, {"t": 900}, {"t": 900, "mode": "mmse"})] == [0, 0, 0]
    tasks = ("inpaint", "colorize", "superres", "deblur")
    assert [probes("restore", task=task) for task in tasks] == [7, 7, 0, 0]


@pytest.mark.parametrize(
    "told", [{"conditions": {"hair": "afro"}}, {"condition": "hair:afro"}, {"condition": ""}, {"condition": [{}]}]
)
def test_whoever_says_which_conditions_there_are_gets_these(told: dict[str, Any]) -> None:
    told = {name.removesuffix("s") if name == "conditions" else name: each for name, each in told.items()}
    job = new_job("faces", prepared(strength=0.9, **told))
    assert "probes" not in job.task.model_dump()
    assert job.contract < 5
    assert job.params.conditions == ({"hair": ("afro",)} if "afro" in str(told) else {})
    assert probes(strength=0.9, files=("sketch",)) == 0


def test_a_job_of_a_model_without_examples_has_nothing_new() -> None:
    job = new_job("faces", prepared(of=WITHOUT, strength=0.9))
    assert "probes" not in job.task.model_dump()
    assert job.contract < 5
    with pytest.raises(RequestRefused, match="needs a"):
        prepared(of=WITHOUT, strength=0.9, guidance_scale=2)


def found_job(**query: Any) -> Job:
    job = new_job("faces", prepared(strength=0.9, seed=[3], **query))
    return job.found_with(nearest(MODEL.config, MODEL.probes, range(len(MODEL.probes))))


def test_a_job_that_looks_for_conditions_is_priced_numbered_and_guided() -> None:
    job = new_job("faces", prepared(strength=0.9, n=2, steps=5, guidance_scale=2))
    assert (job.contract, job.image_steps) == (5, 2 * 10 + 7)
    assert job.found_with({"hair": ("afro",)}).image_steps == job.image_steps
    request = prepared(strength=0.9, n=2)
    told = prepared(strength=0.9, n=2, condition=["age:30.5", "colour:colour 1", "hair:short"])
    assert cost_of(request, MODEL).stored_bytes >= cost_of(told, MODEL).stored_bytes


def test_a_png_says_what_that_of_the_named_conditions_says() -> None:
    found = found_job()
    named = [f"{name}:{value}" for name, (value,) in found.params.conditions.items()]
    told = new_job("faces", prepared(strength=0.9, seed=[3], condition=named))
    facts = [recipe(job, 0, model="faces", version="0" * 64, timesteps=(1,)) for job in (found, told)]
    assert facts[0] == facts[1]
    assert facts[0]["conditions"] == {name: list(values) for name, values in found.params.conditions.items()}


def test_an_explicit_none_makes_another_request() -> None:
    query = KINDS["denoise"].query
    assert query().request_hash("denoise") != query(condition={}).request_hash("denoise")


def test_the_nearest_example_has_the_smallest_sum_of_errors() -> None:
    """The best values are 30.5, colour 2 and short, which no example has together."""
    errors = {20.0: 0.3, 30.5: 0.1, 40.0: 0.15, "colour 1": 0.4, "colour 2": 0.2, "short": 0.1, "afro": 0.3}
    tried = probes_of(MODEL.config)
    assert {value for _, value in tried} == set(errors)
    found = nearest(MODEL.config, tried, [errors[value] for _, value in tried])
    assert found == {"age": (40.0,), "colour": ("colour 2",), "hair": ("short",)}


def test_of_many_values_the_commonest_are_tried_and_numbers_stand_for_their_neighbours() -> None:
    ages = tuple(each * 37 % 800 / 8 for each in range(800))
    many = model(
        examples={"age": ages, "colour": (*(COLOURS * 4)[:799], "colour 7"), "hair": (*["short"] * 799, "afro")}
    )
    tried = probes_of(many.config)
    counts = {name: sum(each == name for each, _ in tried) for name in CONDITIONS}
    assert counts == {"age": 63, "colour": 63, "hair": 2, "sketch": 0}
    assert len(tried) == MOST_PROBES
    assert ("colour", "colour 7") in tried
    found = nearest(many.config, tried, [abs(value - 50) if isinstance(value, float) else 0 for _, value in tried])
    numbers, (age,) = [value for _, value in tried if isinstance(value, float)], found["age"]
    assert isinstance(age, float)
    assert min(numbers, key=lambda each: abs(each - age)) == min(numbers, key=lambda each: abs(each - 50))
    assert ("colour", found["colour"][0]) in tried, "what was not tried is not known to be near"


def test_the_least_depth_follows_the_schedule() -> None:
    schedule = NoiseSchedule.linear()
    depth = least_depth(schedule)
    assert schedule.alphas_cumprod[depth] <= 0.15 < schedule.alphas_cumprod[depth - 1]
