"""The wishes in request headers: the format of the answer, how long to wait for it, and how urgent the job is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import http_sf
import mimeparse

from difuso.jobs.contract import DEFAULT_URGENCY

from ..errors import NotAcceptable
from ..formats import Format

MAX_ACCEPT = 2048  # characters; browsers send 150. An unfinished string takes quadratic time


@dataclass(frozen=True)
class Accept:
    """The Accept header of a request for images."""

    header: str

    def choose(self, planes: int) -> Format:
        """Returns the format that it prefers of those that hold images of so many planes; raises NotAcceptable."""
        try:
            return choose_format(self.header, Format.offered(planes))
        except NotAcceptable as error:
            if planes == 1:
                raise
            wanted = " or ".join(reversed(Format.offered(planes)))
            raise NotAcceptable(f"Images of {planes} channels are not PNGs: accept {wanted}.") from error


def choose_format(accept: str, offers: Sequence[Format] = tuple(Format)) -> Format:
    """Returns the format that an Accept header prefers; the last of the offers if it has no preference.

    Raises NotAcceptable if the header excludes all offers, is malformed or is too long.
    """
    if not accept.strip():
        return offers[-1]
    best = preferred([form.value for form in offers if form.by_wildcard or "*" not in accept], accept)
    if best is None:
        raise NotAcceptable
    return next(form for form in Format if form == best)


def preferred(offers: Sequence[str], accept: str) -> str | None:
    """Returns the media type that an Accept header prefers; the last of those that it prefers equally.

    It is None if the header excludes all offers or is malformed. Raises NotAcceptable if the header is too long.
    """
    if len(accept) > MAX_ACCEPT:
        raise NotAcceptable(f"The Accept header should have at most {MAX_ACCEPT} characters.")
    try:
        return mimeparse.best_match(offers, accept) or None
    except mimeparse.MimeTypeParseException:
        return None


@dataclass(frozen=True)
class Preference:
    """The wait that the caller prefers (RFC 7240)."""

    seconds: float  # the time after which the answer comes even if the job is unfinished
    applied: str | None  # the Preference-Applied header; None if no preference was applied


def read_preference(prefer: str | None, *, longest: float, otherwise: float) -> Preference:
    """Reads a Prefer header; preferences that are unknown or malformed are ignored, as the RFC demands.

    `respond-async` alone means no wait; with `wait` it means a wait of that length.

    Args:
        longest: the longest wait that the server allows, in seconds.
        otherwise: the wait without a preference, in seconds.
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
