"""Conditions as a request sends them, and what the files and the manifest of a job say about them."""

import time
from typing import Any

import pytest

from difuso.app.formats import describe
from difuso.jobs.conditions import GivenConditions, Values, read_values, split_files
from difuso.jobs.contract import ImageFile, Job, Manifest, new_job
from difuso.jobs.errors import RequestRefused
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import VectorSequence
from tests.small_models import CONDITIONS, conditional_checkpoint

NAMES = {"layout": "a" * 64, "sketch": "b" * 64}


def given(*sent: str) -> GivenConditions:
    """The conditions of a query string."""
    conditions = SamplingQuery.model_validate({"condition": sent}).conditions
    assert conditions is not None
    return conditions


def found(*sent: str) -> Values:
    return read_values(given("style:0,0", *sent), CONDITIONS, model="m")


def params(**changes: Any) -> SamplingParams:
    settings = {"n": 2, "seed": (7, 7), "variance": "fixed_small", "clip": "static"}
    return SamplingParams.model_validate(settings | changes)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["age:33"], {"age": (33.0,)}),
        (["age:33", "age:44"], {"age": (33.0, 44.0)}),
        (["age:[33,44]"], {"age": (33.0, 44.0)}),
        (['age:["33"]'], {"age": (33.0,)}),
        (['glasses:["none","round"]'], {"glasses": ("none", "round")}),
    ],
)
def test_a_list_of_json_and_a_repeated_condition_mean_the_same(sent: list[str], expected: dict[str, Any]) -> None:
    assert found(*sent) == {"style": ((0.0, 0.0),), **expected}


@pytest.mark.parametrize("sent", [["style:1,2", "style:3,4"], ["style:[[1,2],[3,4]]"], ["style:[1,2]", "style:[3,4]"]])
def test_vectors_are_lists_themselves(sent: list[str]) -> None:
    expected = {"style": ((1.0, 2.0), (3.0, 4.0))}
    assert read_values(given(*sent), CONDITIONS, model="m") == expected
    assert read_values(given(sent[0]), CONDITIONS, model="m")["style"][0] == (1.0, 2.0)
    table = SamplingQuery.model_validate({"condition": {"style": [[1, 2], [3, 4]]}}).conditions
    assert read_values(table, CONDITIONS, model="m") == expected


def test_images_are_separated_from_values() -> None:
    sent = given("age:33", "layout:city.png", "style:1,2", "sketch:a:b.png")
    assert split_files(sent, CONDITIONS) == (
        {"age": ("33",), "style": ("1,2",)},
        {"layout": "city.png", "sketch": "a:b.png"},
    )
    assert split_files(None, CONDITIONS) == (None, {})
    for wrong in (given("layout:a", "layout:b"), {"layout": (3,)}, given("layout:[[1]]")):
        with pytest.raises(RequestRefused, match="layout: Input should be one image for all"):
            split_files(wrong, CONDITIONS)


def test_a_sequence_is_a_file_or_lists_and_one_for_all() -> None:
    conditions = {"text": VectorSequence(2, 3)}
    assert split_files(given("text:a.npy"), conditions) == ({}, {"text": "a.npy"})
    assert split_files(given("text:[[1,2],[3,4]]"), conditions) == ({}, {"text": [[1, 2], [3, 4]]})
    with pytest.raises(RequestRefused, match="text: Input should be one sequence for all"):
        split_files(given("text:a.npy", "text:b.npy"), conditions)


def test_the_images_of_a_job_have_a_fixed_order() -> None:
    first = params(conditions={"sketch": (NAMES["sketch"],), "age": (3.0,), "layout": (NAMES["layout"],)})
    config = conditional_checkpoint().config
    assert first.uploads(config) == [NAMES["layout"], NAMES["sketch"]]
    same = params(conditions={"sketch": ("c" * 64,), "layout": ("c" * 64,)})
    assert same.uploads(config) == ["c" * 64]


def test_files_of_images_that_differ_in_a_condition_only_have_names_of_their_own() -> None:
    task, several = Generation(), params(conditions={"age": (20.0, 60.0)})
    assert [task.file_stem(several, index) for index in range(2)] == ["7-0", "7-1"]
    assert task.file_stem(params(conditions={"age": (20.0,)}), 0) == "7"
    assert task.file_stem(params(conditions={"age": (20.0, 60.0)}, label=(1, 0)), 1) == "7-class0-1"


def test_a_manifest_has_the_conditions_of_each_image_where_they_differ() -> None:
    def images(conditions: dict[str, Any]) -> list[dict[str, Any]]:
        job: Job = new_job("m", Prepared(params(conditions=conditions), Generation()))
        files = tuple(ImageFile(path=f"{index}.png", seed=7, sha256="0") for index in range(2))
        manifest = Manifest(job=job, timesteps=(0,), images=files, finished_at=time.time())
        found: list[dict[str, Any]] = describe(manifest)["images"]
        return found

    several = images({"age": (20.0, 60.0), "glasses": ("round",)})
    assert [each["conditions"] for each in several] == [{"age": age, "glasses": "round"} for age in (20.0, 60.0)]
    assert all("conditions" not in each for each in images({"age": (20.0,)}))
