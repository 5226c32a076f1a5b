"""The wishes in request headers: the format of the answer, how long to wait for it, and how urgent the job is."""

from __future__ import annotations

import re
from dataclasses import dataclass

import mimeparse

from jobs.contract import DEFAULT_URGENCY

from .errors import NotAcceptable
from .formats import Format


def choose_format(accept: str | None) -> Format:
    """Returns the format that an Accept header prefers; PNG if it has no preference.

    Raises:
        NotAcceptable: if the header excludes all formats or is malformed.
    """
    if not accept or not accept.strip():
        return Format.PNG
    offered = [form.value for form in Format if form.by_wildcard or "*" not in accept]
    try:
        best = mimeparse.best_match(offered, accept)
    except mimeparse.MimeTypeParseException:
        best = ""
    if not best:
        raise NotAcceptable
    return next(form for form in Format if form == best)


@dataclass(frozen=True)
class Preference:
    """How long the caller waits (RFC 7240).

    Attributes:
        seconds: the time until 202 is answered, if the job is unfinished.
        applied: the Preference-Applied header; None if no preference was applied.
    """

    seconds: float
    applied: str | None


def read_preference(prefer: str | None, *, longest: float) -> Preference:
    """Reads a Prefer header, and ignores preferences that are unknown or malformed, as the RFC demands.

    `respond-async` alone means no wait; with `wait` it means a wait of that length.

    Args:
        longest: the longest wait that the server allows, in seconds.
    """
    wanted = dict(_members(prefer or ""))
    wait = wanted.get("wait", "")
    respond_async = "respond-async" in wanted
    applied = ["respond-async"] if respond_async else []
    seconds = 0.0 if respond_async else longest
    if re.fullmatch(r"\d{1,9}", wait):
        seconds = min(float(wait), longest)
        applied.append(f"wait={seconds:.0f}")
    return Preference(seconds, ", ".join(applied) or None)


def read_urgency(priority: str | None) -> int:
    """Returns `u` of a Priority header (RFC 9218), 0..7; the default if it is absent or malformed."""
    urgency = DEFAULT_URGENCY
    for name, value in _members(priority or ""):
        if name == "u" and re.fullmatch(r"[0-7]", value):
            urgency = int(value)
    return urgency


def read_idempotency_key(sent: str) -> str | None:
    """Returns the key of an Idempotency-Key header; None if it is malformed.

    The draft makes it a Structured Field: a string in quotation marks (RFC 9651), whose parameters are ignored. Most
    clients omit the quotation marks; the key is the same with and without them.
    """
    if sent.startswith('"'):
        quoted = re.fullmatch(r'"((?:[^"\\]|\\["\\])*)"(?: *;.*)?', sent)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    else:
        key = sent
    return key if re.fullmatch(r"[\x20-\x7e]{1,255}", key) else None


def _members(header: str) -> list[tuple[str, str]]:
    """Returns the name=value pairs of a comma-separated header, without their parameters."""
    members = []
    for member in header.split(","):
        name, _, value = member.split(";")[0].partition("=")
        members.append((name.strip().lower(), value.strip().strip('"')))
    return members
