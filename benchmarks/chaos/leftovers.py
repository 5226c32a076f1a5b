"""What is still there when everything has had its time: keys in Redis that never expire, and files in the store."""

from __future__ import annotations

import re
from pathlib import Path

import redis

# What stands for as long as an installation does, whatever was asked for: RQ's set of queue names, and the wake-up
# lists of at most sixteen tokens each. Everything else belongs to a job or a process.
STANDING = re.compile(r"rq:queues|difuso:wake:.*")
NEVER = -1


def keys_left(client: redis.Redis, *, longest: int) -> list[str]:
    """Keys that stay for ever, or for longer than any job may be remembered.

    Args:
        longest: seconds.
    """
    left = []
    for raw in client.scan_iter(count=1000):
        key = raw.decode()
        seconds = client.ttl(key)
        if not STANDING.fullmatch(key) and (seconds == NEVER or seconds > longest):
            left.append(key)
    return sorted(left)


def files_left(store: Path) -> list[str]:
    """Paths below the store."""
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if not path.is_dir())
