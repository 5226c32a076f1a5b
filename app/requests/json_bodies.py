"""JSON bodies, which hold the parameters of a query, the conditions of a model as a table, and images in base64.

A body becomes a part of the query and the parts of a form, so all later code reads one form of a request.
"""

import base64
import binascii
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from jobs.kinds import KINDS
from jobs.kinds.base import Kind
from jobs.params import MAX_IMAGES
from model.conditions import MAX_CONDITIONS, MAX_TEXT

from ..errors import InvalidRequest, UploadRefused
from ..http.problems import MAX_NAME
from .deps import Process
from .uploads import JSON, SENT

# More than any request has: 80,000 numbers fit into the conditions of a job, and most parameters are their values.
MAX_VALUES = 100_000
MAX_PARAMETERS = 2 * MAX_CONDITIONS * MAX_IMAGES
MAX_PARAMETER = 4096  # characters of one that is not a condition; the longest list of timesteps has a third

IMAGE = {"type": "string", "contentEncoding": "base64", "description": "PNG or JPEG, or an array as .npy, in base64"}
VALUE = {"anyOf": [{"type": "string"}, {"type": "number"}]}
CONDITIONS = {
    "type": "object",
    "description": "values of the model's conditions by name: a choice, a number, the numbers of a vector, an image in "
    "base64, or a list with one for each image",
    "additionalProperties": {"anyOf": [*VALUE["anyOf"], {"type": "array", "items": {**VALUE}}, {"type": "null"}]},
    "examples": [{"age": 33, "glasses": ["none", "round"]}],
}


class JsonRoute(APIRoute):
    """The route of a kind of job, which also takes its parameters as JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        kind = KINDS[self.name]

        async def read(request: Request) -> Response:
            media_type, _ = parse_options_header(request.headers.get("content-type"))
            if media_type != JSON.encode():
                return await handle(request)
            if (guard := request.app.state.guard) is not None:  # strangers could keep this process busy with bodies
                await guard(request)
            process: Process = request.state.process
            async with process.uploads.read_whole(request, partial(_parted, kind=kind)) as (pairs, images):
                return await handle(_Rewritten(request, pairs, images))

        return read


class _Rewritten(Request):
    """A request whose JSON body was read: its parameters are a part of the query.

    They are not written into the address, because that would take several times their memory.
    """

    def __init__(self, request: Request, pairs: list[tuple[str, str]], images: dict[str, bytes]) -> None:
        super().__init__({**request.scope, SENT: images}, request.receive)
        self._query = QueryParams([*request.query_params.multi_items(), *pairs])

    @property
    def query_params(self) -> QueryParams:
        return self._query


def json_schema(kind: Kind[Any], query: type[BaseModel]) -> dict[str, Any]:
    """Returns the schema of a kind's JSON bodies; `query` has its parameters."""
    schema = query.model_json_schema()
    images = dict.fromkeys((*kind.required, *kind.optional), IMAGE)
    schema["properties"] = {**images, **schema["properties"], "conditions": CONDITIONS}
    schema["required"] = [*([] if kind.instead else kind.required), *schema.get("required", [])]
    return schema


def decoded(text: str, name: str) -> bytes:
    """Returns the bytes of an image in base64; raises UploadRefused, which names it, for another text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UploadRefused("Input should be an image in base64", part=name[:MAX_NAME]) from error


def _content(body: bytearray) -> dict[str, Any]:
    """Returns the object of a body; raises InvalidRequest for anything else."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:  # one of them precedes each value but the first
        raise InvalidRequest("pointer", "", f"The body should have at most {MAX_VALUES} values")
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


def _parted(body: bytearray, kind: Kind[Any]) -> tuple[list[tuple[str, str]], dict[str, bytes]]:
    """Returns the parameters of a body as pairs of a query, and its images.

    A text that is longer than any name of a choice is the image of a condition; but not one with commas, which base64
    has not: the numbers of a vector.
    """
    pairs, images = [], {}
    for name, value in _content(body).items():
        if name in (*kind.required, *kind.optional) and value is not None:
            images[name] = decoded(_text(value, name), name)
        elif name == "conditions" and value is not None:
            if not isinstance(value, dict):
                raise InvalidRequest("pointer", "/conditions", "Input should be a table of the conditions by name")
            for condition, told in value.items():
                if isinstance(told, str) and len(told) > MAX_TEXT and "," not in told:
                    images[condition] = decoded(told, condition)
                elif told is not None:
                    text = json.dumps(told) if isinstance(told, list) else _text(told, f"conditions/{condition}")
                    pairs.append(("condition", f"{condition}:{text}"))
        else:
            values = value if isinstance(value, list) else [] if value is None else [value]
            texts = [_text(each, name) for each in values]
            if name != "condition" and max(map(len, texts), default=0) > MAX_PARAMETER:
                raise InvalidRequest(
                    "pointer", f"/{name}"[:MAX_NAME], f"Input should have at most {MAX_PARAMETER} characters"
                )
            pairs += [(name, text) for text in texts]
    if len(pairs) > MAX_PARAMETERS:
        raise InvalidRequest("pointer", "", f"The body should have at most {MAX_PARAMETERS} parameters")
    return pairs, images


def _text(value: Any, name: str) -> str:
    """Returns a value as a query holds it."""
    if not isinstance(value, str | int | float):
        raise InvalidRequest("pointer", f"/{name}"[:MAX_NAME], "Input should be a text, a number or a list of them")
    return value if isinstance(value, str) else json.dumps(value)
