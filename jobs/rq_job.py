"""RQ's job as we store it: data, and nothing that runs."""

from __future__ import annotations

import zlib
from typing import Any

from rq.job import Job as RqJob

from .bounded import MAX_FIELD
from .errors import JobUnreadable

MAX_RETRIES = 2  # a job is started at most three times; one that kills its worker is then given up


class DataJob(RqJob):
    """A job without callbacks and webhooks, also where somebody who can write to Redis planted some.

    RQ would import and call the first and connect to the second, when a job ends and when it is recovered. And it would
    unpack whatever is stored, to any size.
    """

    def restore(self, raw_data: Any) -> Any:
        kept = {name: value for name, value in raw_data.items() if name not in (b"exc_info", b"result")}
        if b"data" in kept and not _is_readable(kept[b"data"]):
            kept[b"data"] = b""  # which is no call: whoever looks at it finds that out
        restored = super().restore(kept)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        return restored

    @property
    def should_retry(self) -> bool:
        """False: what a worker reports as failed would fail again. Jobs of dead workers are retried all the same."""
        return False


def inflate(data: bytes) -> bytes:
    """The call in RQ's record of a job, which is compressed there.

    Raises:
        JobUnreadable: if it is none, or longer than any of ours; then no more than that is unpacked.
    """
    unpacking = zlib.decompressobj()
    try:
        call = unpacking.decompress(data, MAX_FIELD)
    except zlib.error as error:
        raise JobUnreadable("the queued job is damaged") from error
    if not unpacking.eof:
        raise JobUnreadable("the queued job is longer than any of difuso's, or breaks off")
    return call


def _is_readable(data: bytes) -> bool:
    try:
        inflate(data)
    except JobUnreadable:
        return False
    return True
