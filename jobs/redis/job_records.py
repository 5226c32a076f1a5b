"""RQ's record of a job, read as data: no function in it is imported, and no callback is called."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from rq.defaults import DEFAULT_RESULT_TTL

from ..errors import JobUnreadable
from .keys import QueueName

# The tries of a job after its first. It loses one when a worker dies while running it, and gets all back by progress.
MAX_RETRIES = 3
LONE_RETRIES = 1  # with at most this number left, the job may be the cause of the deaths, and runs alone
MAX_DEATHS = 50  # deaths of workers, regardless of progress, after which a job is given up

# Fields of RQ's record of a job, which are deleted together with it.
DEATHS = "deaths"  # the number of workers that died while running the job
RESUMED_AT = "resumed_at"  # the image-steps that were done when the last worker began, or handed it back
PUT_OFF_AT = "put_off_at"  # the time since when no worker could make the job ready, in seconds since the epoch
PUT_OFFS = "put_offs"  # how often that was found out
VERSIONS = "versions"  # the versions of its models (JSON) that a job is bound to, if not those it was accepted for
EXPIRED_AT = "expired_at"  # the time when the client had the images deleted, in seconds since the epoch
OWNER = "owner"  # the name on the API key that made it; absent without keys
LISTENER = "listener"  # the name of the front end whose request waits for the job; absent if none does
WEBHOOK = "webhook"  # what is called at its end (JSON), and how far that is; absent if the request names nothing
WEBHOOK_FENCE = "webhook_fence"  # the number of claims of the webhook
ENDED_BY = "ended_by"  # the execution that ended the job, so that a repeated end is known


@dataclass(eq=False)
class JobRecord:
    """The record of a job that waits or runs."""

    id: str
    fields: Mapping[bytes, bytes]  # the whole record, as it was read
    queue: QueueName  # the queue that it belongs in
    function: str  # the name of the function in RQ's call
    arguments: Mapping[str, Any]  # its keyword arguments
    timeout: int  # the time limit for the run, in seconds
    ttl: int  # the seconds that the record is kept after the end
    retries_left: int
    # started_at: when the first worker started it, in seconds since the epoch; None before
    started_at: float | None
    is_fresh: bool  # whether no worker had started it when it was read, so that it has no snapshot
    # deaths, resumed_at, put_off_at, put_offs: as the fields of the same name; 0 if they are absent
    deaths: int
    resumed_at: int
    put_off_at: float
    put_offs: int
    versions: tuple[str, ...]  # of its models, if it is bound to others than those it was accepted for

    @classmethod
    def of(cls, job_id: str, fields: Mapping[bytes, bytes]) -> Self:
        """Reads the record of the job with this id; raises any exception if it is none of difuso's."""
        queue = QueueName.read(fields[b"origin"].decode())
        if queue is None:
            raise JobUnreadable("the job belongs in no queue of difuso")
        function, _, _, arguments = json.loads(zlib.decompress(fields[b"data"]))
        started_at = seconds_of(fields.get(b"started_at"))
        return cls(
            id=job_id,
            fields=fields,
            queue=queue,
            function=function,
            arguments=arguments,
            timeout=int(fields[b"timeout"]),
            ttl=int(fields.get(b"result_ttl", DEFAULT_RESULT_TTL)),
            retries_left=int(fields.get(b"retries_left", MAX_RETRIES)),
            started_at=started_at,
            is_fresh=started_at is None,
            deaths=int(fields.get(DEATHS.encode(), 0)),
            resumed_at=int(fields.get(RESUMED_AT.encode(), 0)),
            put_off_at=float(fields.get(PUT_OFF_AT.encode(), 0.0)),
            put_offs=int(fields.get(PUT_OFFS.encode(), 0)),
            versions=bound_versions(fields.get(VERSIONS.encode())),
        )

    @property
    def is_awaited(self) -> bool:
        """Whether a request waits for the end of the job."""
        return LISTENER.encode() in self.fields

    @property
    def is_suspect(self) -> bool:
        """Whether several workers died while running the job, without any progress."""
        return self.retries_left <= LONE_RETRIES


def bound_versions(text: bytes | None) -> tuple[str, ...]:
    """Returns the versions in a record of a job; none if it is bound to those that it was accepted for."""
    return tuple(json.loads(text)) if text else ()


def seconds_of(stamp: bytes | None) -> float | None:
    """Converts a time of RQ into seconds since the epoch; None if it is absent."""
    return datetime.fromisoformat(stamp.decode()).timestamp() if stamp else None
