"""The headers of requests and answers, as the OpenAPI description shows them: each is described here once.

Accept and Authorization are missing: in OpenAPI, media types and security schemes stand for them.
"""

from typing import Annotated, Any

from fastapi import Header


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


def _answered(description: str, *, always: bool = False, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "required": always, "schema": {"type": kind}}


# `always` means in every answer that names the header in its description.
ANSWERED: dict[str, dict[str, Any]] = {
    "Content-Location": _answered("path that answers the same to GET", always=True),
    "ETag": _answered("changes whenever the answer does; for If-None-Match", always=True),
    "Location": _answered("path of the job", always=True),
    "Preference-Applied": _answered("the parts of Prefer that were applied"),
    "RateLimit": _answered("what is left of the limits of the API key, if it has limits"),
    "RateLimit-Policy": _answered("the limits of the API key, if it has limits"),
    "Retry-After": _answered("seconds after which another request may find more", kind="integer"),
    "Server-Timing": _answered("durations of queue, denoise, encode and total, in milliseconds"),
    "X-Job-Id": _answered("id of the job", always=True),
    "X-Request-Id": _answered("id of the request in the server's log", always=True),
}
ABOUT_JOB = ("X-Job-Id", "Content-Location", "ETag")
LIMITED = ("RateLimit-Policy", "RateLimit")


def described(*names: str) -> dict[str, dict[str, str]]:
    """Returns the `headers` of a response in the OpenAPI description; the description has each header once."""
    assert set(names) <= set(ANSWERED)
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def cached(description: str, content: dict[str, Any], *names: str) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a route whose answer a client may know already, with the headers of these names."""
    return {
        200: {"description": description, "content": content, "headers": described(*names)},
        304: {"description": "The client knows this answer already, by If-None-Match", "headers": described(*names)},
    }


def occasional(*names: str) -> dict[str, dict[str, Any]]:
    """Returns the `headers` of a response like `described`, for those that only some of the answers have."""
    return {name: {**ANSWERED[name], "required": False} for name in names}
