"""The OpenAPI description is whole: names, headers, problems and examples. schemathesis holds the rest of it."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import openapi_spec_validator
import pytest
from PIL import Image

from difuso.app.main import create_app
from difuso.app.settings import ApiSettings
from difuso.client.errors import ERRORS
from difuso.jobs.kinds import KINDS
from tests.app_server import keys_file, running
from tests.pictures import saved

ROOT = Path(__file__).parents[2]
# The operations, and the request headers that they read.
HEADERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(KINDS, ("Prefer", "Priority", "Idempotency-Key")),
    "list_jobs": ("If-None-Match",),
    "get_job": ("Prefer", "If-None-Match"),
    "cancel_job": (),
    "follow_job": ("Last-Event-ID",),
    "get_film": ("If-None-Match",),
    "get_image": ("If-None-Match",),
    "get_images": ("If-None-Match",),
    "delete_images": (),
    **dict.fromkeys(("create_dataset", "list_datasets", "get_dataset", "get_thumbnails", "delete_dataset"), ()),
    **dict.fromkeys(("create_training", "list_trainings", "get_training", "get_training_sheet"), ()),
    **dict.fromkeys(("get_training_nearest", "ask_training", "delete_training"), ()),
    "follow_training": ("Last-Event-ID",),
    **dict.fromkeys(("list_models", "get_model", "get_model_schedule"), ()),
    **dict.fromkeys(("get_model_card", "get_model_metrics", "get_model_figure"), ("If-None-Match",)),
    **dict.fromkeys(("get_fleet", "hold_back", "let_go", "move_first", "get_usage"), ()),
    **dict.fromkeys(("health", "ready", "metrics"), ()),
}


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"training": True})


@pytest.fixture
def schema(api: httpx.Client) -> dict[str, Any]:
    described: dict[str, Any] = api.get("/openapi.json").json()
    return described


def operations(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in schema["paths"].values() for operation in path.values()]


def test_operations_have_plain_names_of_their_own_and_say_which_headers_they_read(schema: dict[str, Any]) -> None:
    assert Counter(each["operationId"] for each in operations(schema)) == Counter(HEADERS.keys())
    for operation in operations(schema):
        found = tuple(each["name"] for each in operation.get("parameters", []) if each["in"] == "header")
        assert found == HEADERS[operation["operationId"]]


def test_it_names_version_licence_server_and_tags(schema: dict[str, Any]) -> None:
    assert schema["info"]["version"] == version("difuso")
    assert schema["info"]["license"]["identifier"] == "Apache-2.0"
    assert [server["url"] for server in schema["servers"]] == ["/"]
    described = {tag["name"] for tag in schema["tags"] if tag["description"]}
    assert described == {tag for operation in operations(schema) for tag in operation["tags"]}


@pytest.mark.parametrize("with_keys", [False, True])
def test_it_is_valid_openapi(settings: ApiSettings, tmp_path: Path, with_keys: bool) -> None:
    keys = keys_file(tmp_path) if with_keys else None
    schema = create_app(settings.model_copy(update={"api_keys_file": keys})).openapi()
    openapi_spec_validator.validate(schema)
    guarded = {operation["operationId"] for operation in operations(schema) if operation["security"]}
    assert guarded == (HEADERS.keys() - {"health", "ready"} if with_keys else set())


def test_all_errors_are_the_one_problem(schema: dict[str, Any]) -> None:
    for operation in operations(schema):
        content = operation["responses"]["default"]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert "Problem" in schema["components"]["schemas"]
    assert str(schema).count("An error as RFC 9457 describes it.") == 1


def test_a_price_has_a_schema_of_its_own(schema: dict[str, Any]) -> None:
    for operation in operations(schema):
        asked = [each for each in operation.get("parameters", []) if each["name"] == "dry_run"]
        assert len(asked) == (operation["operationId"] in KINDS)
        if asked:
            assert (asked[0]["schema"]["type"], asked[0]["schema"]["default"], asked[0]["required"]) == (
                "boolean",
                False,
                False,
            )
            answer = operation["responses"]["200"]
            assert next(iter(answer["content"])) == "image/png"
            choices = answer["content"]["application/json"]["schema"]["anyOf"]
            assert [each["$ref"].rpartition("/")[2] for each in choices] == ["JobView", "Price"]
    price = schema["components"]["schemas"]["Price"]
    assert set(price["required"]) == set(price["properties"]) - {"asleep", "load_seconds", "task", "warnings"}
    of_jobs = {name: each for name, each in schema["components"]["schemas"].items() if "Training" not in name}
    assert "dry_run" not in str(of_jobs)


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '#/components/(\w+)/([\w-]+)'", str(schema)))
    assert {kind for kind, _ in references} == {"schemas"}
    assert [each for each in references if each[1] not in schema["components"][each[0]]] == []
    linked = set(re.findall(r"'operationId': '(\w+)', 'parameters': {", str(schema)))
    assert {"get_job", "get_images"} <= linked <= set(HEADERS)


@pytest.mark.parametrize("model", ["tiny", "faces64"])
def test_the_examples_of_parameters_are_accepted(
    settings: ApiSettings, cascade_models_dir: Path, schema: dict[str, Any], model: str
) -> None:
    """Each of them alone, and all together that are not a choice."""
    folder = ROOT / "checkpoints" if model == "faces64" else cascade_models_dir
    with running(settings.model_copy(update={"models_dir": folder})) as api:
        for kind in sorted(KINDS.keys() - ({"upscale"} if model == "faces64" else set())):
            for query in examples(schema, kind):
                sent = {"model": "tiny-up" if kind == "upscale" else model, **query}
                picture = saved(Image.linear_gradient("L").convert("RGB"), "PNG")
                files = dict.fromkeys(KINDS[kind].required, picture)
                answer = api.post(f"/{kind}", params=sent, files=files or None, headers={"Prefer": "respond-async"})
                assert answer.status_code == 202, (kind, query, answer.text)


def examples(schema: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Queries of a kind of job: all examples together that are not a choice, and each alone with what is required."""
    queries = [each for each in schema["paths"][f"/{kind}"]["post"]["parameters"] if each["in"] == "query"]
    found = {each["name"]: each["schema"].get("examples", []) for each in queries}
    together = {name: values[0] for name, values in found.items() if len(values) == 1}
    assert len(together) >= 3
    needed = {each["name"]: together[each["name"]] for each in queries if each["required"]}
    return [together, *(needed | {name: value} for name, values in found.items() for value in values)]


def test_the_examples_of_headers_are_applied(api: httpx.Client, schema: dict[str, Any]) -> None:
    parameters = schema["paths"]["/generate"]["post"]["parameters"]
    headers = {each["name"]: each["schema"]["examples"][0] for each in parameters if each["in"] == "header"}
    first, second = (api.post("/generate", headers=headers) for _ in range(2))
    assert first.headers["Preference-Applied"] == "respond-async"
    assert first.json()["urgency"] == 1
    assert first.json()["id"] == second.json()["id"]


def test_the_documentation_lists_the_same_types_of_problems() -> None:
    section = (ROOT / "docs" / "http-api.md").read_text("utf-8").partition("## Problems")[2]
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == set(ERRORS)
