"""What can go wrong between a front end and a worker, and what to do about it.

JobsError
├── JobNotFound          no job has this id, or it was forgotten after its time
├── JobUnreadable        the queue holds a job that this version does not understand
├── IdempotencyConflict  the key was used for another request
├── QueueUnavailable     Redis does not answer, is full or read-only; try again later
├── ResultExpired        the job succeeded, but its pictures were deleted after their time
└── StoreUnavailable     the result store cannot be read or written; try again later
"""

from __future__ import annotations


class JobsError(Exception):
    """Base of every error raised by this package."""


class JobNotFound(JobsError):
    """No job has this id: it never existed, or its time is over."""


class JobUnreadable(JobsError):
    """The stored job was written by another version or by somebody else; submit it again."""


class IdempotencyConflict(JobsError):
    """This Idempotency-Key belongs to a different request: use a new key, or repeat the first request."""


class QueueUnavailable(JobsError):
    """The queue does not answer at the moment; the request was not accepted and may be repeated."""


class ResultExpired(JobsError):
    """The pictures of this job were deleted after their time; submit the job again with the same seed."""


class StoreUnavailable(JobsError):
    """The result store cannot be read or written at the moment; try again later."""
