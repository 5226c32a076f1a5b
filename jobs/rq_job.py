"""RQ's job as we store it: data, and nothing that runs. Whoever can write to Redis may have written it."""

from __future__ import annotations

import zlib
from typing import Any, Self

import redis
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from .errors import JobUnreadable

# Tries that a job has after its first. One that a worker dies under loses one; progress gives them all back.
MAX_RETRIES = 3
LONE_RETRIES = 1  # with so few left it may be what its workers died of, and runs with no other job beside it
MAX_DEATHS = 50  # of workers under one job, whatever progress it made: so that none goes on for ever
MAX_JOB_BYTES = 1 << 17  # of a job as JSON, ten times what the largest request becomes

# In RQ's record of the job, so that they live as long as it does.
DEATHS = "deaths"  # of workers while they ran it
RESUMED_AT = "resumed_at"  # image-steps that the last start began with

# RQ would import and call callbacks, connect to webhooks, and unpack what is stored as an earlier result.
_KEPT = (
    *(b"data", b"status", b"origin", b"description", b"meta", b"worker_name"),
    *(b"created_at", b"enqueued_at", b"started_at", b"ended_at", b"last_heartbeat"),
    *(b"timeout", b"result_ttl", b"failure_ttl", b"retries_left"),
)


class DataJob(RqJob):
    """A job without callbacks and webhooks, also where somebody who can write to Redis planted some.

    Attributes:
        deaths: of workers while they ran it.
        resumed_at: image-steps that its last start began with.
    """

    deaths: int = 0
    resumed_at: int = 0

    @classmethod
    def read(cls, job_id: str, client: redis.Redis) -> Self:
        """The job with this id.

        Raises:
            Exception: of whatever kind a parser raises, if it is none of ours or there is none.
        """
        job = cls(job_id, connection=client, serializer=JSONSerializer)
        job.refresh()  # type: ignore[no-untyped-call]
        return job

    def restore(self, raw_data: Any) -> Any:
        """Takes over what the record says; raises like `read`."""
        kept = {name: raw_data[name] for name in _KEPT if name in raw_data}
        if b"data" in kept:
            kept[b"data"] = inflate(kept[b"data"])  # which RQ takes as it is, since it looks for a zlib header
        restored = super().restore(kept)
        self.deaths = int(raw_data.get(DEATHS.encode(), 0))
        self.resumed_at = int(raw_data.get(RESUMED_AT.encode(), 0))
        return restored

    @property
    def is_suspect(self) -> bool:
        """Workers died under it again and again, without any progress."""
        return self.retries_left is not None and self.retries_left <= LONE_RETRIES

    @property
    def should_retry(self) -> bool:
        """False: what a worker reports as failed would fail again. Jobs of dead workers are retried all the same."""
        return False


def inflate(data: bytes) -> bytes:
    """RQ's record of a call, as JSON. A small packet can hold gigabytes, so no more is unpacked than a job can have.

    Raises:
        JobUnreadable: if it is too long, or nothing that RQ has written.
    """
    packet = zlib.decompressobj()
    try:
        call = packet.decompress(data, MAX_JOB_BYTES)
    except zlib.error as error:
        raise JobUnreadable("the queue holds something that is no job of difuso") from error
    if not packet.eof or not call.startswith(b"["):
        raise JobUnreadable("the queue holds something that is no job of difuso")
    return call
