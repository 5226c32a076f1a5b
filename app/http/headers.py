"""The headers of requests, as the OpenAPI description shows them, and answers that a client knows already.

Accept and Authorization are missing: in OpenAPI, media types and security schemes stand for them.
"""

from pathlib import Path
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import FileResponse, Response


def _sent(name: str, description: str, *examples: str) -> Any:
    return Header(alias=name, description=description, examples=list(examples) or None)


# FastAPI passes one of several headers of a name; whoever reads a list takes all of them from the request instead.
PreferHeader = Annotated[
    str | None,
    _sent("Prefer", "respond-async answers at once, wait=S after S seconds at most (RFC 7240)", "respond-async"),
]
PatienceHeader = Annotated[str | None, _sent("Prefer", "wait=S waits S seconds at most (RFC 7240)", "wait=30")]
PriorityHeader = Annotated[str | None, _sent("Priority", "u=0 goes first, u=7 last (RFC 9218)", "u=1")]
IdempotencyKeyHeader = Annotated[
    str | None, _sent("Idempotency-Key", "requests with the same key share one job", '"poster-7"')
]
IfNoneMatchHeader = Annotated[
    str | None, _sent("If-None-Match", "the ETag of a known answer, which is not sent again: 304")
]
LastEventIdHeader = Annotated[str | None, _sent("Last-Event-ID", "id of the last event that the client has received")]


def cached(description: str, content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a route whose answer a client may know already."""
    return {
        200: {"description": description, "content": content},
        304: {"description": "The client knows this answer already, by If-None-Match"},
    }


def matches(known: str | None, tag: str) -> bool:
    """Returns whether an If-None-Match header names the tag."""
    tags = [found.strip().removeprefix("W/") for found in (known or "").split(",")]
    return "*" in tags or tag in tags


def known_file(path: Path, *, known: str | None, headers: dict[str, str], media_type: str | None = None) -> Response:
    """Returns a file, or 304; `known` is the If-None-Match header."""
    response = FileResponse(path, headers=headers, media_type=media_type, stat_result=path.stat())
    tag = response.headers["ETag"]
    return Response(status_code=304, headers={**headers, "ETag": tag}) if matches(known, tag) else response
