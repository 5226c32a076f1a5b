"""The parameters of a request for images, from its query string and its JSON body; later code sees one query.

The query string is a shorthand: each of its values is a text, and a condition is NAME:VALUE.
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from difuso.jobs.images.npz import encode_npy
from difuso.jobs.kinds.base import Kind

from ..errors import InvalidRequest, UploadRefused
from ..http.problems import MAX_NAME
from .deps import list_parameters, refuse_repeated
from .uploads import JSON, Uploads, about_part

# More than any request has: 80,000 numbers fit into the conditions of a job, and most parameters are their values.
MAX_VALUES = 100_000
MAX_PARAMETERS = 4096  # of which `condition` may be most
MAX_PARAMETER = 4096  # characters of one that is not a condition; the longest list of timesteps has a third

VALUE = {"anyOf": [{"type": "string"}, {"type": "number"}]}
LISTED = {"anyOf": [*VALUE["anyOf"], {"type": "array", "items": {**VALUE}}]}
CONDITIONS = {
    "type": "object",
    "description": "values of the model's conditions by name: a choice, a number, the numbers of a vector, the vectors "
    "of a sequence, a file in base64, or a list with one for each image",
    "additionalProperties": {"anyOf": [*VALUE["anyOf"], {"type": "array", "items": LISTED}, {"type": "null"}]},
    "examples": [{"age": 33, "glasses": ["none", "round"]}],
}


class Body(NamedTuple):
    """What a JSON body holds: texts as in a query string, values of conditions, and images by name."""

    texts: list[tuple[str, str]]
    tables: list[dict[str, Any]]  # of conditions by name, of which there is one at most; it may be empty
    images: dict[str, bytes]


@asynccontextmanager
async def received(
    request: Request, kind: Kind[Any], query: type[BaseModel], uploads: Uploads
) -> AsyncIterator[tuple[Any, dict[str, bytes] | None]]:
    """Yields the query of a request, and the images of its JSON body, None without one.

    The memory of a body counts as used until the context ends.

    Raises InvalidRequest, UploadRefused or RequestValidationError if something is wrong.
    """
    texts = request.query_params.multi_items()
    media_type, _ = parse_options_header(request.headers.get("content-type"))
    if media_type != JSON.encode():
        yield _parsed(query, texts), None
        return
    async with uploads.read_whole(request, partial(_read, kind=kind)) as body:
        yield _parsed(query, [*texts, *body.texts], body.tables), body.images


def _parsed(query: type[BaseModel], texts: list[tuple[str, str]], tables: Sequence[Mapping[str, Any]] = ()) -> Any:
    refuse_repeated(query, texts)
    lists, sent = list_parameters(query), dict[str, Any]()
    for name, text in texts:
        if name in lists:
            sent.setdefault(name, []).append(text)
        else:
            sent[name] = text
    if tables:
        sent.setdefault("condition", []).extend(tables)
    try:
        return query.model_validate(sent)
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("query", *each["loc"])} for each in error.errors()]) from error


def query_parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """Returns the OpenAPI description of a query string."""
    schema = query.model_json_schema()
    needed = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": each}
        | ({"description": each["description"]} if "description" in each else {})
        for name, each in schema["properties"].items()
    ]


def json_schema(kind: Kind[Any], query: type[BaseModel]) -> dict[str, Any]:
    """Returns the schema of a kind's JSON bodies; `query` has its parameters."""
    schema = query.model_json_schema()
    encoded = {"type": "string", "contentEncoding": "base64"}
    names = (*kind.required, *kind.optional)
    images = {name: {**encoded, "description": f"{about_part(name)}, in base64"} for name in names}
    schema["properties"] = {**images, **schema["properties"], "conditions": CONDITIONS}
    schema["required"] = [*([] if kind.instead else kind.required), *schema.get("required", [])]
    return schema


def decoded(content: str | list[Any], name: str) -> bytes:
    """Returns a file that is in base64, or lists of a sequence as .npy; raises UploadRefused, which names it."""
    try:
        if isinstance(content, list):
            return encode_npy(np.array(content, np.float64))
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        wanted = "a file in base64" if isinstance(content, str) else "lists of equally many numbers"
        raise UploadRefused(f"Input should be {wanted}", part=name[:MAX_NAME]) from error


def _read(body: bytearray, kind: Kind[Any]) -> Body:
    """Reads the content of a JSON body; raises InvalidRequest or UploadRefused if it is wrong."""
    read = Body([], [], {})
    for name, value in _content(body).items():
        if value is None:
            continue
        if name in (*kind.required, *kind.optional):
            read.images[name] = decoded(_text(value, name), name)
        elif name == "conditions":
            if not isinstance(value, dict):
                raise InvalidRequest("pointer", "/conditions", "Input should be a table of the conditions by name")
            read.tables.append({each: values for each, values in value.items() if values is not None})
        else:
            texts = [_text(each, name) for each in (value if isinstance(value, list) else [value])]
            if name != "condition" and max(map(len, texts), default=0) > MAX_PARAMETER:
                problem = f"Input should have at most {MAX_PARAMETER} characters"
                raise InvalidRequest("pointer", f"/{name}"[:MAX_NAME], problem)
            read.texts.extend((name, text) for text in texts)
    if len(read.texts) > MAX_PARAMETERS:
        raise InvalidRequest("pointer", "", f"The body should have at most {MAX_PARAMETERS} parameters")
    return read


def _content(body: bytearray) -> dict[str, Any]:
    """Returns the object of a body; raises InvalidRequest for anything else."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:  # one of them precedes each value but the first
        raise InvalidRequest("pointer", "", f"The body should have at most {MAX_VALUES} values: send sequences as .npy")
    try:
        content = json.loads(body or b"{}", object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("pointer", "", "The body should be JSON, without a repeated name") from error
    if not isinstance(content, dict):
        raise InvalidRequest("pointer", "", "The body should be a JSON object with the parameters of the request")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of a body; raises ValueError if a name is repeated, or is half of a surrogate pair."""
    if len({name.encode() for name, _ in pairs}) < len(pairs):
        raise ValueError("a name is repeated")
    return dict(pairs)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str | int | float):
        raise InvalidRequest("pointer", f"/{name}"[:MAX_NAME], "Input should be a text, a number or a list of them")
    return value if isinstance(value, str) else json.dumps(value)
