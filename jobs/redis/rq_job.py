"""RQ's job, reduced to data: no part of a record runs."""

import json
import re
from typing import Any, Self

import redis
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from model.folders.version import VERSION

from ..errors import JobUnreadable

# The tries of a job after its first. It loses one when a worker dies while running it, and gets all back by progress.
MAX_RETRIES = 3
LONE_RETRIES = 1  # with at most this number left, the job may be the cause of the deaths, and runs alone
MAX_DEATHS = 50  # deaths of workers, regardless of progress, after which a job is given up

# Fields of RQ's record of a job, which are deleted together with it.
DEATHS = "deaths"  # the number of workers that died while running the job
RESUMED_AT = "resumed_at"  # the image-steps that were done when the last worker began
PUT_OFF_AT = "put_off_at"  # the time since when no worker could make the job ready, in seconds since the epoch
PUT_OFFS = "put_offs"  # how often that was found out
VERSIONS = "versions"  # the versions of its models (JSON) that a job is bound to, if not those it was accepted for
EXPIRED_AT = "expired_at"  # the time when the client had the images deleted, in seconds since the epoch

# All other fields are dropped: RQ would import and call callbacks, connect to webhooks, and unpack earlier results.
_KEPT = (
    *(b"data", b"status", b"origin", b"description", b"meta", b"worker_name"),
    *(b"created_at", b"enqueued_at", b"started_at", b"ended_at", b"last_heartbeat"),
    *(b"timeout", b"result_ttl", b"failure_ttl", b"retries_left"),
)


class DataJob(RqJob):
    """A job of RQ without callbacks and webhooks, even if its record has some."""

    # deaths, resumed_at, put_off_at, put_offs: the fields of the record; 0 if they are absent
    deaths: int = 0
    resumed_at: int = 0
    put_off_at: float = 0.0
    put_offs: int = 0
    versions: tuple[str, ...] = ()  # of its models, if it is bound to others than those it was accepted for
    is_fresh: bool = False  # whether no worker has started the job before, so that it has no snapshot

    @classmethod
    def read(cls, job_id: str, client: redis.Redis) -> Self:
        """Reads the job with this id; raises any exception if there is none or a parser refuses its record."""
        record: Any = client.hgetall(cls.key_for(job_id))
        return cls.of(job_id, record, client)

    @classmethod
    def of(cls, job_id: str, record: dict[bytes, bytes], client: redis.Redis) -> Self:
        """Returns the job with this id from its record; raises like `read`."""
        if not record:
            raise NoSuchJobError(f"there is no job {job_id}")
        job = cls(job_id, connection=client, serializer=JSONSerializer)
        job.restore(record)
        return job

    def restore(self, raw_data: Any) -> Any:
        """Sets the attributes of the job from its record; raises like `read`."""
        kept = {name: raw_data[name] for name in _KEPT if name in raw_data}
        restored = super().restore(kept)
        self.deaths = int(raw_data.get(DEATHS.encode(), 0))
        self.resumed_at = int(raw_data.get(RESUMED_AT.encode(), 0))
        self.put_off_at = float(raw_data.get(PUT_OFF_AT.encode(), 0.0))
        self.put_offs = int(raw_data.get(PUT_OFFS.encode(), 0))
        self.versions = bound_versions(raw_data.get(VERSIONS.encode()))
        self.is_fresh = not raw_data.get(b"started_at")
        return restored

    @property
    def is_suspect(self) -> bool:
        """Whether several workers died while running the job, without any progress."""
        return self.retries_left is not None and self.retries_left <= LONE_RETRIES

    @property
    def should_retry(self) -> bool:
        """False, because a job that a worker reports as failed would fail again. This does not concern dead workers."""
        return False


def bound_versions(text: bytes | None) -> tuple[str, ...]:
    """Returns the versions in a record of a job; none if it is bound to those that it was accepted for."""
    versions = tuple(json.loads(text)) if text else ()
    if not all(isinstance(each, str) and re.fullmatch(VERSION, each) for each in versions):
        raise JobUnreadable("the record of the job names no versions")
    return versions
