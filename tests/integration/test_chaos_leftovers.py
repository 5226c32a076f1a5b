"""What a run of chaos counts as left in Redis."""

from __future__ import annotations

import time

import redis

from benchmarks.chaos.leftovers import keys_left
from difuso.jobs.redis.usage import KEPT_DAYS
from difuso.jobs.redis.workers import LOST_SECONDS, WorkerReport, publish_report


def test_keys_without_an_end_are_left_and_those_of_a_known_length_are_not(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.sadd("rq:queues", "rq:queue:one")
    client.set("difuso:wake:one", 1)
    client.set("difuso:job", 1, ex=60)
    client.set("difuso:usage:all", 1, ex=86_400 * KEPT_DAYS)
    for name, silent in (("killed", 60.0), ("lost", LOST_SECONDS + 60.0)):
        publish_report(client, WorkerReport(name=name, at=time.time() - silent, slots=8, models=()))
    assert keys_left(client, longest=120) == []

    publish_report(client, WorkerReport(name="silent", at=time.time(), slots=8, models=()))
    for key, seconds in (("difuso:long", 600), ("difuso:usage:1", 86_400 * (KEPT_DAYS + 1))):
        client.set(key, 1, ex=seconds)
    for key in ("difuso:ever", "difuso:usage:2"):
        client.set(key, 1)
    assert keys_left(client, longest=120) == [
        *("difuso:ever", "difuso:long", "difuso:usage:1", "difuso:usage:2", "difuso:workers silent"),
    ]
