"""What a request leaves open is filled in from the model's examples: by the seed, in agreement with the rest."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.errors import RequestRefused
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.kinds.generate import GenerateQuery, complete
from difuso.jobs.kinds.interpolate import InterpolateQuery
from difuso.jobs.kinds.interpolate import complete as complete_between
from difuso.jobs.params import MAX_SEED
from difuso.model.conditions import Choice, Number, Vector, vector_size
from difuso.model.folders.config import ModelConfig
from difuso.model.networks.configs import UNetConfig

HAIR = ("bald", "short", "afro", "hat")
CONDITIONS = {
    "age": Number(0, 100, null=True),
    "colour": Choice(("none", "black", "red"), null=True),
    "hair": Choice(HAIR, null=True),
}
# Red hair is always short, and an afro always black.
ROWS = [
    (20.0, "red", "short"),
    (30.0, "black", "short"),
    (40.0, "black", "afro"),
    (50.0, "none", "hat"),
    (60.0, "none", "bald"),
]
EXAMPLES: dict[str, Any] = dict(zip(CONDITIONS, zip(*ROWS, strict=True), strict=True))
NETWORK = UNetConfig(vector_size=vector_size(CONDITIONS))


def model(**fields: Any) -> ModelInfo:
    facts = {"conditions": CONDITIONS, "examples": EXAMPLES} | fields
    return ModelInfo("faces", ModelConfig(NETWORK, **facts), parameters=1, version="0" * 64)


MODEL = model()


def prepared(*asked: str, **query: Any) -> Prepared:
    return complete(GenerateQuery.model_validate({"condition": list(asked) or None, **query}), MODEL, {})


def rows(*asked: str, **query: Any) -> list[tuple[Any, ...]]:
    """Returns the conditions of each image in the end, as a row of EXAMPLES."""
    params = prepared(*asked, **query).params
    return [tuple(params.conditions_of(index)[name] for name in CONDITIONS) for index in range(params.n)]


@given(seed=st.integers(0, MAX_SEED - 8), n=st.integers(1, 8))
def test_an_image_is_filled_in_from_one_example_by_its_seed_alone(seed: int, n: int) -> None:
    alone = [rows(seed=[seed + index])[0] for index in range(n)]
    assert rows(seed=[seed], n=n) == alone
    assert rows(seed=[seed + index for index in reversed(range(n))]) == alone[::-1]
    assert set(alone) <= set(ROWS)


def test_seeds_in_a_row_do_not_get_examples_in_a_row() -> None:
    filled = [ROWS.index(row) for row in rows(seed=[0], n=64)]
    steps = Counter((after - before) % len(ROWS) for before, after in pairwise(filled))
    assert len(steps) == len(ROWS)


@given(seed=st.integers(0, MAX_SEED))
def test_what_is_given_stays_and_the_rest_agrees_with_it(seed: int) -> None:
    """Each value that is filled in comes with each choice that is given in one of the examples."""
    assert rows("hair:afro", seed=[seed]) == [(40.0, "black", "afro")]
    age, colour, hair = rows("hair:short", seed=[seed])[0]
    assert (colour, hair) in [("red", "short"), ("black", "short")]
    assert age in (20, 30)
    age, colour, hair = rows("colour:black", seed=[seed])[0]
    assert colour == "black"
    assert hair in ("short", "afro")
    assert age in (30, 40)


@given(seed=st.integers(0, MAX_SEED))
def test_a_number_that_is_given_says_nothing_about_the_rest(seed: int) -> None:
    assert rows("age:33", seed=[seed]) == [(33.0, *rows(seed=[seed])[0][1:])]


@given(seed=st.integers(0, MAX_SEED))
def test_where_no_example_agrees_the_choice_with_the_most_values_counts_most(seed: int) -> None:
    """No afro is red among the examples, and of the two the hair decides."""
    assert rows("hair:afro", "colour:red", seed=[seed]) == [(40.0, "red", "afro")]


@given(seed=st.integers(0, MAX_SEED))
def test_what_fits_each_value_of_a_choice_stays_while_the_choice_changes(seed: int) -> None:
    """Each shade comes with each size and each mark, in the examples; a size and a mark depend on each other."""
    conditions = {name: Choice(tuple("abc"), null=True) for name in ("shade", "size", "mark")}
    whole = [(shade, size, size) for shade in "abc" for size in "abc"]
    examples = dict(zip(conditions, zip(*whole, strict=True), strict=True))
    free = model(conditions=conditions, examples=examples)

    def values(*condition: str) -> dict[str, Any]:
        query = GenerateQuery.model_validate({"condition": list(condition) or None, "seed": [seed]})
        return complete(query, free, {}).params.conditions_of(0)

    own = values()
    for size in "abc":
        assert values(f"size:{size}") == {"shade": own["shade"], "size": size, "mark": size}
        assert values(f"shade:{size}") == own | {"shade": size}


def between(*asked: str, shares: list[float], seeds: tuple[int, int]) -> Prepared:
    query = InterpolateQuery.model_validate({"condition": list(asked) or None, "seed": seeds, "lambda": shares})
    return complete_between(query, MODEL, {})


@given(seeds=st.tuples(*2 * [st.integers(0, MAX_SEED)]), asked=st.sampled_from([(), ("hair:afro",), ("age:33",)]))
def test_the_ends_between_two_seeds_get_what_their_own_images_get(
    seeds: tuple[int, int], asked: tuple[str, ...]
) -> None:
    found = between(*asked, shares=[0, 1], seeds=seeds)
    assert [found.params.conditions_of(index) for index in range(2)] == [
        prepared(*asked, seed=[seed]).params.conditions_of(0) for seed in seeds
    ]
    assert found.filled_in == prepared(*asked, seed=[seeds[0]]).filled_in


@given(seeds=st.tuples(*2 * [st.integers(0, MAX_SEED)]), shares=st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_on_the_way_between_two_seeds_numbers_change_evenly_and_each_choice_once(
    seeds: tuple[int, int], shares: list[float]
) -> None:
    shares = [0, *sorted(shares), 1]
    params = between(shares=shares, seeds=seeds).params
    asked: list[dict[str, Any]] = [params.conditions_of(index) for index in range(len(shares))]
    first, last = asked[0], asked[-1]
    for share, row in zip(shares, asked, strict=True):
        assert row["age"] == pytest.approx(first["age"] + share * (last["age"] - first["age"]))
    for name in ("colour", "hair"):
        changes = [one for one in pairwise(row[name] for row in asked) if one[0] != one[1]]
        assert changes in ([], [(first[name], last[name])])


def test_choices_do_not_change_at_once() -> None:
    """An afro at 40 becomes a hat at 50, whose hair has no colour."""
    seeds = [next(seed for seed in range(99) if rows(seed=[seed]) == [row]) for row in ROWS[2:4]]
    params = between(shares=[0.2, 0.5, 0.8], seeds=(seeds[0], seeds[1])).params
    assert [params.conditions_of(index) for index in range(3)] == [
        {"age": pytest.approx(42), "colour": "black", "hair": "afro"},
        {"age": pytest.approx(45), "colour": "none", "hair": "afro"},
        {"age": pytest.approx(48), "colour": "none", "hair": "hat"},
    ]


def test_two_values_are_for_the_two_seeds_and_as_many_as_images_for_each() -> None:
    def drawn(count: int, *conditions: str) -> list[dict[str, Any]]:
        shares = [index / (count - 1) for index in range(count)]
        params = between("age:30", *conditions, shares=shares, seeds=(1, 2)).params
        return [params.conditions_of(index) for index in range(count)]

    changing = drawn(5, "hair:short", "hair:afro", "colour:black")
    assert [row["hair"] for row in changing] == ["short"] * 3 + ["afro"] * 2
    assert {(row["age"], row["colour"]) for row in changing} == {(30, "black")}
    asked = ("hair:short", "hair:afro", "hair:short")
    assert [row["hair"] for row in drawn(3, *asked)] == ["short", "afro", "short"]
    with pytest.raises(RequestRefused, match="hair: Input should be one, or one for each of the 4 images"):
        drawn(4, *asked)


def test_vectors_change_evenly_between_two_seeds() -> None:
    drawn = model(conditions={"style": Vector(2, null=True)}, examples={})
    query = InterpolateQuery.model_validate(
        {"condition": ["style:0,1", "style:1,-1"], "seed": (1, 2), "lambda": [0, 0.5, 1]}
    )
    assert complete_between(query, drawn, {}).params.conditions == {"style": ((0, 1), (0.5, 0), (1, -1))}


def test_the_names_of_what_is_filled_in_are_known() -> None:
    assert prepared("hair:afro").filled_in == {"age", "colour"}
    assert prepared("age:3", "colour:red", "hair:afro").filled_in == frozenset()


@pytest.mark.parametrize("more", [{}, {"guide": ["hair"]}, {"guidance_low": 0.5}])
def test_guidance_acts_on_what_is_filled_in(more: dict[str, Any]) -> None:
    guidance: dict[str, Any] = {"guidance_scale": 2, **more, "seed": [3]}
    filled = prepared(**guidance)
    asked = [f"{name}:{value}" for name, (value,) in filled.params.conditions.items()]
    assert filled.params == prepared(*asked, **guidance).params
    between = InterpolateQuery.model_validate(guidance | {"seed": (3, 4), "lambda": [0, 1]})
    assert complete_between(between, MODEL, {}).params.guidance_scale == 2


def test_guidance_needs_a_condition_where_nothing_is_filled_in() -> None:
    with pytest.raises(RequestRefused, match="This needs a condition age or a condition colour"):
        complete(GenerateQuery.model_validate({"guidance_scale": 2}), model(examples={}), {})


def test_more_than_a_job_holds_is_refused() -> None:
    conditions = {f"c{index}": Choice((chr(97 + index) * 256,), null=True) for index in range(32)}
    examples = {name: each.values for name, each in conditions.items()}
    large = model(conditions=conditions, examples=examples)
    complete(GenerateQuery(n=32), large, {})
    with pytest.raises(RequestRefused, match=r"at most 400000 characters as JSON, .*: draw fewer images"):
        complete(GenerateQuery(n=64), large, {})


NEVER = ({"colour": ("none", "red"), "hair": ("afro",)}, {"colour": ("black", "red"), "hair": ("hat", "bald")})
DECLARING = model(never=NEVER)


def warned(kind: str, *asked: str, model: ModelInfo = DECLARING, **query: Any) -> list[str]:
    made = KINDS[kind].query.model_validate({"condition": list(asked) or None, **query})
    return [each.detail for each in KINDS[kind].prepare(made, model, {}).warnings]


def test_what_was_never_seen_together_is_drawn_with_a_warning_that_names_it() -> None:
    said = "faces has never seen colour red with hair afro: the images may show something else"
    assert warned("generate", "hair:afro", "colour:red") == [said]
    assert warned("generate", "hair:afro", "hair:short", "hair:hat", "colour:red") == [
        said,
        said.replace("afro", "hat"),
    ]
    assert warned("generate", "hair:afro", "colour:red", model=MODEL) == []
    assert warned("generate", "hair:afro", "colour:black") == warned("generate") == []


def test_between_two_seeds_the_ends_count_and_not_the_way() -> None:
    """On the way from an afro to a hat there are images of both."""
    between: dict[str, Any] = {"seed": [1, 2], "lambda": [0.1, 0.5, 0.9]}
    assert warned("interpolate", "hair:afro", "hair:hat", "colour:black", "colour:none", **between) == []
    ends = warned("interpolate", "hair:afro", "hair:hat", "colour:black", "colour:red", **between)
    assert ends == ["faces has never seen colour red with hair hat: the images may show something else"]


@given(seed=st.integers(0, MAX_SEED), hair=st.sampled_from(HAIR))
def test_what_is_filled_in_contradicts_nothing(seed: int, hair: str) -> None:
    """No example has a hat, and a beard has the colour of hair, which may come from another example than the beard."""
    conditions = {**CONDITIONS, "beard": Choice(("none", "black", "red"), null=True)}
    rows = [row for row in ROWS if row[2] != "hat"]
    names = dict(zip(CONDITIONS, zip(*rows, strict=True), strict=True))
    beards = tuple(colour if colour == "red" else "black" for colour in names["colour"])
    never = (*NEVER, {"beard": ("red",), "colour": ("none", "black")}, {"beard": ("black",), "colour": ("red",)})
    network = UNetConfig(vector_size=vector_size(conditions))
    examples = {**names, "beard": beards}
    whole = ModelConfig(network, conditions=conditions, examples=examples, never=never)
    info = ModelInfo("faces", whole, parameters=1, version="0" * 64)
    assert warned("generate", f"hair:{hair}", model=info, seed=[seed]) == []
