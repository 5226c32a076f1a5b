"""What is left when everything has expired: keys in Redis without an expiry, and files in the store."""

import re
from pathlib import Path

import redis

# Keys that outlive jobs: RQ's set of queue names, the wake-up lists of at most sixteen tokens each, the reports of
# workers, which stay for ten minutes after a kill, and the counts of use, for 400 days. All others belong to jobs.
STANDING = re.compile(r"rq:queues|difuso:(wake:.*|workers|usage:.*)")
NEVER = -1


def keys_left(client: redis.Redis, *, longest: int) -> list[str]:
    """Returns the keys that stay for ever, or longer than any job may be remembered.

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
    """Returns the paths of files below the store."""
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if not path.is_dir())
