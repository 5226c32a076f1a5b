"""The client's types say the same as the server's queries, although neither imports the other."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest

from app.routers.jobs import JobsQuery
from difuso import AsyncClient, Client
from difuso.client import options
from difuso.client.images import ImageLike
from difuso.client.options import IMAGES, Headers, KindName
from difuso.client.results import State
from jobs.contract import JobState
from jobs.kinds import KINDS
from jobs.kinds.base import Kind

OPTIONS: dict[str, Any] = {
    "generate": options.Generate,
    "interpolate": options.Interpolate,
    "denoise": options.Denoise,
    "restore": options.Restore,
    "upscale": options.Upscale,
}

# Where the client is more convenient than a query, or does not list what a registry of the server has.
OTHER_TYPES = {
    "sampler": str | None,
    "seed": int | Sequence[int] | None,
    "label": str | int | Sequence[str | int] | None,
    "guide": str | Sequence[str] | None,
    "lambda": float | Sequence[float],
    "factor": Literal[2, 4],
    "bits": Literal[8, 16],
    "trace": int | str | Sequence[int | str],
}
OTHER_WORDS = {"spacing"}  # the server lists all rules


def described() -> dict[str, dict[str, str]]:
    """The docstring below each field, by class and field."""
    found: dict[str, dict[str, str]] = {}
    for each in ast.parse(Path(options.__file__).read_text("utf-8")).body:
        if isinstance(each, ast.ClassDef):
            pairs = zip(each.body, each.body[1:], strict=False)
            found[each.name] = {
                field.target.id: text.value.value
                for field, text in pairs
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return found


def of_server(kind: Kind[Any]) -> dict[str, Any]:
    """The type of each parameter, by its name over HTTP."""
    hints, fields = get_type_hints(kind.query), kind.query.model_fields
    return {field.alias or name: hints[name] for name, field in fields.items()}


def test_the_client_knows_every_kind_and_its_images() -> None:
    assert set(get_args(KindName)) == IMAGES.keys() == OPTIONS.keys() == KINDS.keys()
    assert {name: kind.required + kind.optional for name, kind in KINDS.items()} == IMAGES


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_parameters_have_the_names_and_types_of_the_query(kind: Kind[Any]) -> None:
    of_client = {name.rstrip("_"): hint for name, hint in get_type_hints(OPTIONS[kind.name]).items()}
    for name in get_type_hints(Headers):
        del of_client[name]
    for name in kind.optional:
        assert of_client.pop(name) == ImageLike | None
    expected = of_server(kind)
    del of_client["conditions"], expected["condition"]  # which the client writes from its table
    assert of_client == expected | {name: hint for name, hint in OTHER_TYPES.items() if name in expected}
    required = {field.alias or name for name, field in kind.query.model_fields.items() if field.is_required()}
    assert OPTIONS[kind.name].__required_keys__ == required


def test_other_types_hold_what_the_query_takes() -> None:
    assert set(map(str, get_args(OTHER_TYPES["factor"]))) == set(get_args(of_server(KINDS["restore"])["factor"]))


def test_parameters_are_described_in_the_words_of_the_query() -> None:
    words = described()
    for kind in KINDS.values():
        own = words[OPTIONS[kind.name].__name__] | words["Sampling" if kind.name == "generate" else "WithImages"]
        of_query = {field.alias or name: field.description or "" for name, field in kind.query.model_fields.items()}
        for name, text in own.items():
            sentence = of_query.get(name.rstrip("_"))
            if name not in (*OTHER_WORDS, *kind.optional, "conditions"):
                assert sentence is not None
                assert text == f"{sentence[:1].upper()}{sentence[1:]}."


def test_a_list_of_jobs_has_the_filters_of_the_server() -> None:
    """The parts of a list are the client's own affair."""
    filters = get_type_hints(options.Filters)
    assert get_args(State) == tuple(JobState)
    of_query = {name: hint for name, hint in get_type_hints(JobsQuery).items() if name in JobsQuery.model_fields}
    changed = {"state": State | None, "kind": KindName | None, "limit": int, "cursor": str | None}
    assert {**filters, "limit": int, "cursor": str | None} == of_query | changed


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_help_shows_every_parameter(client: type[Any], kind: Kind[Any]) -> None:
    shown = inspect.signature(getattr(client, kind.name)).parameters
    names = {{"conditions": "condition"}.get(name, name.rstrip("_")) for name in shown if name != "self"}
    assert names == of_server(kind).keys() | {*kind.required, *kind.optional, *get_type_hints(Headers)}
    assert not [each for each in shown.values() if each.kind is each.VAR_KEYWORD]
