"""What is left when everything has expired: keys in Redis without an expiry, and files in the store."""

import re
from pathlib import Path

import redis

from difuso.jobs.redis.keys import WORKERS
from difuso.jobs.redis.usage import KEPT_DAYS
from difuso.jobs.redis.workers import live_reports, prune_reports

# Keys that live as long as an installation: RQ's set of queue names, and the wake-up lists of at most sixteen tokens
# each. Counts of use stay for KEPT_DAYS, and the reports of killed workers for LOST_SECONDS. Every other key belongs to
# a job or a process.
STANDING = re.compile(r"rq:queues|difuso:wake:.*")
COUNTS = re.compile(r"difuso:usage:.*")
NEVER = -1


def keys_left(client: redis.Redis, *, longest: int) -> list[str]:
    """Returns the keys that stay for ever, or longer than any job may be remembered, and the reports that do.

    Args:
        longest: seconds.
    """
    prune_reports(client)  # as the next worker would
    left = []
    for raw in client.scan_iter(count=1000):
        key = raw.decode()
        seconds, most = client.ttl(key), KEPT_DAYS * 86_400 if COUNTS.fullmatch(key) else longest
        if key == WORKERS:
            left += [f"{key} {report.name}" for report in live_reports(client)]
        elif not STANDING.fullmatch(key) and (seconds == NEVER or seconds > most):
            left.append(key)
    return sorted(left)


def files_left(store: Path) -> list[str]:
    """Returns the paths of files below the store."""
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if not path.is_dir())
