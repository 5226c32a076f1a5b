"""The headers of requests: their description, the wishes in them, and answers that a client knows already.

The OpenAPI description of Accept and Authorization is missing: media types and security schemes stand for them.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import http_sf
import mimeparse
from fastapi import Header
from starlette.responses import FileResponse, Response

from difuso.jobs.contract import DEFAULT_URGENCY

from ..errors import NotAcceptable
from ..formats import Format

Form = TypeVar("Form", bound=StrEnum)

MAX_ACCEPT = 2048  # characters; browsers send 150. An unfinished string takes quadratic time


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


def entity_tag(content: str | bytes) -> str:
    """Returns the entity tag of an answer, which changes whenever anything in it does."""
    data = content.encode() if isinstance(content, str) else content
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def known_content(
    content: str | bytes, *, known: str | None, headers: dict[str, str], media_type: str, code: int = 200
) -> Response:
    """Returns an answer with its entity tag, or 304; `known` is the If-None-Match header."""
    headers = {**headers, "ETag": entity_tag(content)}
    if matches(known, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, code, headers, media_type=media_type)


def known_file(path: Path, *, known: str | None, headers: dict[str, str], media_type: str | None = None) -> Response:
    """Returns a file, or 304; `known` is the If-None-Match header."""
    response = FileResponse(path, headers=headers, media_type=media_type, stat_result=path.stat())
    tag = response.headers["ETag"]
    return Response(status_code=304, headers={**headers, "ETag": tag}) if matches(known, tag) else response


@dataclass(frozen=True)
class Accept:
    """The Accept header of a request for images."""

    header: str

    def choose(self, planes: int = 1) -> Format:
        """Returns the format that it prefers of those that hold images of so many planes; raises NotAcceptable."""
        offers = Format.offered(planes)
        wanted = f"Images of {planes} channels are not PNGs: accept {' or '.join(reversed(offers))}."
        named = [form for form in offers if form.by_wildcard or "*" not in self.header]
        return choose_format(self.header, named, None if planes == 1 else wanted)


def choose_format(accept: str, offers: Sequence[Form], refusal: str | None = None) -> Form:
    """Returns the format that an Accept header prefers; the last of those that it prefers equally, as without a header.

    Raises NotAcceptable, with the `refusal`, if it excludes all offers or is malformed; and if it is too long.
    """
    if len(accept) > MAX_ACCEPT:
        raise NotAcceptable(f"The Accept header should have at most {MAX_ACCEPT} characters.")
    try:
        best = mimeparse.best_match([*offers], accept.strip() or "*/*")
    except mimeparse.MimeTypeParseException:
        best = ""
    if not best:
        raise NotAcceptable(refusal)
    return next(form for form in offers if form == best)


@dataclass(frozen=True)
class Preference:
    """The wait that the caller prefers (RFC 7240)."""

    seconds: float  # the time after which the answer comes even if the job is unfinished
    applied: str | None  # the Preference-Applied header; None if no preference was applied


def read_preference(prefer: str | None, *, longest: float, otherwise: float) -> Preference:
    """Reads a Prefer header; preferences that are unknown or malformed are ignored, as the RFC demands.

    `respond-async` alone means no wait; with `wait` it means a wait of that length. `longest` is the longest wait that
    the server allows, and `otherwise` the wait without a preference, both in seconds.
    """
    wanted, applied = _preferences(prefer), []
    if "respond-async" in wanted:
        applied.append("respond-async")
        otherwise = 0.0
    if re.fullmatch(r"[0-9]{1,9}", wait := wanted.get("wait", "")):
        otherwise = min(float(wait), longest)
        applied.append(f"wait={otherwise:.0f}")
    return Preference(otherwise, ", ".join(applied) or None)


def _preferences(prefer: str | None) -> dict[str, str]:
    """Returns the values by name, without parameters; the first one of a preference that is given several times."""
    wanted: dict[str, str] = {}
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        wanted.setdefault(name.strip().lower(), value.strip().strip('"'))
    return wanted


def read_urgency(priority: str | None) -> int:
    """Returns `u` of a Priority header (RFC 9218), 0..7; the default if it is absent or malformed."""
    urgency, _ = _structured(priority or "", "dictionary", {}).get("u", (DEFAULT_URGENCY, {}))
    return urgency if type(urgency) is int and 0 <= urgency <= 7 else DEFAULT_URGENCY


def read_idempotency_key(sent: str) -> str | None:
    """Returns the key of an Idempotency-Key header; None if it is malformed.

    The draft makes it a Structured Field: a string in quotation marks (RFC 9651), whose parameters are ignored. Most
    clients omit the quotation marks; the key is the same with and without them.
    """
    key, _ = _structured(sent, "item", ("", {})) if sent.startswith('"') else (sent, {})
    return key if re.fullmatch(r"[\x20-\x7e]{1,255}", key) else None


def _structured(header: str, kind: str, otherwise: Any) -> Any:
    """Returns a Structured Field (RFC 9651) as http_sf has it; the last argument if it is malformed."""
    try:
        return http_sf.parse(header.encode(), tltype=kind)
    except http_sf.StructuredFieldError:
        return otherwise
