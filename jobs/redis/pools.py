"""Models with workers of their own, which an autoscaler starts when jobs wait, and ends when none do.

Reports do not tell such a model from one that nobody serves, so DIFUSO_POOLS names them.
"""

import time
from collections.abc import Collection, Iterable
from typing import Any

import redis

from . import keys
from .workers import WorkerReport

ASKED_SECONDS = 3600  # after which a start that nobody made is forgotten


def sleeping(pools: Collection[str], reports: Iterable[WorkerReport]) -> frozenset[str]:
    """Returns the models of `pools` on which no live worker reports: their next job starts one."""
    if not pools:  # as nearly everywhere, and each request asks
        return frozenset()
    return frozenset(pools).difference(each.name for report in reports for each in report.models)


def note_asked(client: redis.Redis, model: str) -> None:
    """Notes that a first job waits for a sleeping model from now on."""
    client.set(keys.asked(model), time.time(), ex=ASKED_SECONDS)


def note_ready(client: redis.Redis, model: str) -> None:
    """Remembers how long the start of a model's workers took, if a job has waited for it."""
    since: Any = client.getdel(keys.asked(model))
    if since is not None:
        client.hset(keys.STARTS, model, str(max(0.0, time.time() - float(since))))


def start_seconds(client: redis.Redis, models: Collection[str]) -> dict[str, float | None]:
    """Returns the seconds from the first job to a ready worker at the last start of each model; None if unknown."""
    names = sorted(models)
    found: Any = client.hmget(keys.STARTS, names) if names else ()
    return {name: None if each is None else float(each) for name, each in zip(names, found, strict=True)}
