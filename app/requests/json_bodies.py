"""JSON bodies, which hold the parameters of a query, the conditions of a model as a table, and images in base64.

A body is rewritten as a query and as the parts of a form, so all later code reads one form of a request.
"""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi.routing import APIRoute
from python_multipart.multipart import parse_options_header
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from jobs.kinds import KINDS
from jobs.kinds.base import Kind
from model.folders.bounds import MAX_TEXT

from ..errors import InvalidRequest, UploadRefused
from ..http.problems import MAX_NAME
from .uploads import JSON, SENT, Uploads

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
            uploads: Uploads = request.state.uploads
            pairs, images = _parted(_content(await uploads.read_whole(request)), kind)
            query = "&".join(
                filter(None, [request.scope["query_string"].decode("latin-1"), urlencode(pairs, errors="replace")])
            )
            scope = {**request.scope, "query_string": query.encode("latin-1"), SENT: images}
            return await handle(Request(scope, _after_body(request)))

        return read


def json_schema(kind: Kind[Any]) -> dict[str, Any]:
    """Returns the schema of a kind's JSON bodies."""
    schema: dict[str, Any] = kind.query.model_json_schema()
    del schema["title"]  # which generated clients would take for the name of another type
    images = dict.fromkeys((*kind.required, *kind.optional), IMAGE)
    dry_run = {"type": "boolean", "description": "answer with the price of the request, without making a job"}
    schema["properties"] = {**images, **schema["properties"], "conditions": CONDITIONS, "dry_run": dry_run}
    schema["required"] = [*([] if kind.instead else kind.required), *schema.get("required", [])]
    return schema


def decoded(text: str, name: str) -> bytes:
    """Returns the bytes of an image in base64; raises UploadRefused, which names it, for another text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UploadRefused("Input should be an image in base64", part=name[:MAX_NAME]) from error


def _content(body: bytes) -> dict[str, Any]:
    """Returns the object of a body; raises InvalidRequest for anything else."""
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


def _parted(content: Mapping[str, Any], kind: Kind[Any]) -> tuple[list[tuple[str, str]], dict[str, bytes]]:
    """Returns the parameters of a body as pairs of a query, and its images.

    A text that is longer than any name of a choice is the image of a condition.
    """
    pairs, images = [], {}
    for name, value in content.items():
        if name in (*kind.required, *kind.optional) and value is not None:
            images[name] = decoded(_text(value, name), name)
        elif name == "conditions" and value is not None:
            if not isinstance(value, dict):
                raise InvalidRequest("pointer", "/conditions", "Input should be a table of the conditions by name")
            for condition, told in value.items():
                if isinstance(told, str) and len(told) > MAX_TEXT:
                    images[condition] = decoded(told, condition)
                elif told is not None:
                    text = json.dumps(told) if isinstance(told, list) else _text(told, f"conditions/{condition}")
                    pairs.append(("condition", f"{condition}:{text}"))
        else:
            pairs += [(name, _text(each, name)) for each in _values(value)]
    return pairs, images


def _values(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else () if value is None else (value,)


def _text(value: Any, name: str) -> str:
    """Returns a value as a query holds it."""
    if not isinstance(value, str | int | float):
        raise InvalidRequest("pointer", f"/{name}"[:MAX_NAME], "Input should be a text, a number or a list of them")
    return value if isinstance(value, str) else json.dumps(value)


def _after_body(request: Request) -> Callable[[], Awaitable[Message]]:
    """Returns what comes after a body that was read: an empty one, and then what the server hears of the client."""
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await request.receive()

    return receive
