"""The limits of an API key in the headers RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11)."""

import math
from typing import Any

import http_sf

from jobs.redis.limits import BURST_SECONDS, Limits, Usage

# Units that are not registered, but the draft's default, requests, would be wrong.
UNIT, ROOM = "image-steps", "stored-bytes"
MAX_INTEGER = 10**15 - 1  # of a Structured Field (RFC 9651)


def rate_limit_headers(limits: Limits, usage: Usage, *, kept_seconds: int) -> dict[str, str]:
    """Returns the headers for the limits that are set.

    An account fills in BURST_SECONDS, so this is the window of the policy `rate`. Since it fills all the time, the
    window in which no more is available than now is only known while it is empty: until the next job is accepted.

    Args:
        kept_seconds: the time that results are kept, in which the account of stored bytes fills.
    """
    policies: list[Any] = []  # items of http_sf: a string and its parameters
    states: list[Any] = []
    if limits.rate is not None:
        policies.append(("rate", {"q": _integer(BURST_SECONDS * limits.rate), "qu": UNIT, "w": BURST_SECONDS}))
        wait = {} if usage.balance > 0 else {"t": _integer(-usage.balance / limits.rate)}
        states.append(("rate", {"r": _integer(usage.balance), **wait}))
    if limits.unfinished is not None:
        policies.append(("unfinished", {"q": _integer(limits.unfinished), "qu": UNIT}))
        states.append(("unfinished", {"r": _integer(limits.unfinished - usage.unfinished)}))
    if limits.stored is not None:
        policies.append(("stored", {"q": _integer(limits.stored), "qu": ROOM, "w": kept_seconds}))
        states.append(("stored", {"r": min(MAX_INTEGER, math.floor(usage.room))}))
    return {"RateLimit-Policy": http_sf.ser(policies), "RateLimit": http_sf.ser(states)}


def _integer(amount: float) -> int:
    """Rounds up, so that 0 means that nothing more is accepted."""
    return min(MAX_INTEGER, max(0, math.ceil(amount)))
