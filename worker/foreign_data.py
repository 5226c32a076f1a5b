"""What others may have written into Redis: of the wrong type, or with values that Redis refuses to work with."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import redis

log = logging.getLogger(__name__)

# Redis names a state of its own by a code (MISCONF, NOREPLICAS, BUSY …); redis-py leaves out the plain ERR.
_STATE = re.compile(r"(?:^|caused error: )(?!WRONGTYPE )[A-Z]{2,} ")


def is_refusal(error: Exception) -> bool:
    """Whether Redis answered that it cannot do this with what it holds, however often it is asked."""
    return type(error) is redis.ResponseError and _STATE.search(str(error)) is None


def set_aside(client: redis.Redis, types: Mapping[str, str]) -> bool:
    """Deletes what has another type than it must have; what was there before it was overwritten already.

    Args:
        types: of Redis, by key.

    Returns:
        Whether there was anything.
    """
    with client.pipeline(transaction=False) as pipe:
        for key in types:
            pipe.type(key)
        found = pipe.execute()
    wrong = [key for key, kind in zip(types, found, strict=True) if kind.decode() not in (types[key], "none")]
    for key in wrong:
        log.error("somebody else has overwritten %s; it is deleted", key)
        client.unlink(key)
    return bool(wrong)
