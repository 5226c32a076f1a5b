"""Seeds and labels that are one for all images, or one for each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.defaults import fill_in
from difuso.jobs.errors import RequestRefused
from difuso.jobs.params import MAX_IMAGES, MAX_SEED, SamplingParams
from difuso.jobs.per_image import ALL, DRAWN_SEEDS
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import Choice
from difuso.model.folders.config import ModelConfig
from difuso.model.networks.configs import ClassifierConfig, UNetConfig

PETS = ("cat", "dog", "bird")


def info(classes: tuple[str, ...] | None, **changes: Any) -> ModelInfo:
    return ModelInfo("pets", ModelConfig(UNetConfig(), image_size=16, classes=classes, **changes), 1, "0" * 64)


MODEL = info(PETS)
OTHER = "label: Input should be a class of pets, by name or index 0 to 2: cat, dog, bird"


def asked(model: ModelInfo = MODEL, **sent: Any) -> tuple[int, Any, Any]:
    params = fill_in(SamplingQuery(**sent), model).params
    return params.n, params.seed, params.label


def images(params: SamplingParams) -> list[tuple[int, int | None]]:
    return [(params.seed_of(i), params.label_of(i)) for i in range(params.n)]


def test_one_value_means_what_it_always_meant() -> None:
    assert asked(n=3, seed=5, label="dog") == (3, 5, 1)
    assert asked(seed=5) == (1, 5, None)
    assert images(fill_in(SamplingQuery(n=3, seed=[5], label=["dog"]), MODEL).params) == [(5, 1), (6, 1), (7, 1)]
    n, seed, _ = asked(n=2)
    assert n == 2
    assert 0 <= seed < DRAWN_SEEDS


def test_several_values_are_one_image_each() -> None:
    assert asked(seed=[3, 9, 4]) == (3, (3, 9, 4), None)
    assert asked(seed=[3, 9, 3], label="dog") == (3, (3, 9, 3), 1)
    assert asked(seed=7, label=["dog", "0"]) == (2, 7, (1, 0))
    assert asked(seed=[8, 3], label=["dog", "dog"], n=2) == (2, (8, 3), (1, 1))


@given(st.lists(st.sampled_from(["x", "", "0", "2", "02", "all"]), min_size=1, max_size=6).map(tuple))
def test_each_class_can_be_asked_by_the_value_that_the_model_shows(classes: tuple[str, ...]) -> None:
    """Two classes of ImageNet have the name crane."""
    model = info(classes)
    shown = model.config.declared["label"]
    assert isinstance(shown, Choice)
    assert [asked(model, label=value)[2] for value in shown.values] == [*range(len(classes))]


def test_all_gives_the_classes_in_turn() -> None:
    assert asked(seed=7, label=ALL) == (3, 7, (0, 1, 2))
    assert asked(seed=7, label=ALL, n=5) == (5, 7, (0, 1, 2, 0, 1))
    assert asked(seed=7, label=ALL, n=1) == (1, 7, 0)
    assert asked(seed=[9, 1], label=ALL) == (2, (9, 1), (0, 1))
    assert asked(info(("only",)), seed=7, label=ALL) == (1, 7, 0)
    assert asked(info(("some", "all")), seed=7, label=ALL, n=2) == (2, 7, 1)
    by_classifier = info(None, classifier=ClassifierConfig(num_classes=4))
    assert asked(by_classifier, seed=7, label=ALL) == (4, 7, (0, 1, 2, 3))


MANY = info(tuple(f"kind {i}" for i in range(MAX_IMAGES + 1)))


@pytest.mark.parametrize(
    ("sent", "model", "message"),
    [
        (
            {"seed": [1, 2], "label": ["cat", "dog", "cat"]},
            MODEL,
            "label: Input should be one, or one for each of the 2 seeds",
        ),
        ({"seed": [1, 2], "n": 3}, MODEL, "n: Input should be the number of seeds, 2, or omitted"),
        ({"label": ["cat", "dog"], "n": 1}, MODEL, "n: Input should be the number of labels, 2, or omitted"),
        ({"seed": [1, 2, 3], "label": ALL, "n": 2}, MODEL, "n: Input should be the number of seeds, 3, or omitted"),
        ({"label": [ALL, "cat"]}, MODEL, "label: Input should be all alone, or classes of pets"),
        ({"label": [ALL, ALL]}, MODEL, "label: Input should be all alone, or classes of pets"),
        ({"label": ["cat", "cow"]}, MODEL, OTHER),
        ({"label": ["3", "2"]}, MODEL, OTHER),
        ({"label": ALL}, info(None), "label: Input should be omitted: pets has no classes"),
        ({"label": ["cat", "dog"]}, info(None), "label: Input should be omitted: pets has no classes"),
        ({"label": ALL}, MANY, "n: Label all needs n: pets has 65 classes, more than 64"),
    ],
)
def test_what_contradicts_itself_is_refused(sent: dict[str, Any], model: ModelInfo, message: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        asked(model, **sent)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "sent",
    [{"seed": []}, {"label": []}, {"seed": [0] * 65}, {"label": ["cat"] * 65}, {"seed": [1, -1]}, {"seed": [2**53, 1]}],
)
def test_lists_have_bounds(sent: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SamplingQuery(**sent)


@given(
    n=st.none() | st.integers(1, MAX_IMAGES),
    seeds=st.lists(st.integers(0, MAX_SEED - MAX_IMAGES), min_size=1, max_size=5),
    labels=st.none() | st.just([ALL]) | st.lists(st.sampled_from(PETS), min_size=1, max_size=5),
)
def test_every_image_has_its_own_seed_and_class_or_the_request_is_refused(
    n: int | None, seeds: list[int], labels: list[str] | None
) -> None:
    """As a table of the rules says it."""
    lists = {len(values) for values in (seeds, labels or []) if len(values) > 1}
    implied = len(PETS) if labels == [ALL] else 1
    count = lists.copy().pop() if lists else n or implied
    query = SamplingQuery(n=n, seed=seeds, label=labels)
    if len(lists) > 1 or n not in (None, count):
        with pytest.raises(RequestRefused):
            fill_in(query, MODEL)
        return
    expected = []
    for i in range(count):
        seed = seeds[i] if len(seeds) > 1 else seeds[0] + i
        if labels is None:
            label = None
        elif labels == [ALL]:
            label = i % len(PETS)
        else:
            label = PETS.index(labels[i] if len(labels) > 1 else labels[0])
        expected.append((seed, label))
    assert images(fill_in(query, MODEL).params) == expected


def test_other_lists_are_other_requests() -> None:
    hashes = [
        SamplingQuery(**each).request_hash("generate")
        for each in ({}, {"seed": [7]}, {"seed": [7, 8]}, {"seed": [8, 7]}, {"label": ["7"]}, {"label": ["7", "8"]})
    ]
    assert len({*hashes}) == len(hashes)
