"""What can go wrong between a front end and a worker, and what to do about it.

JobsError
├── RequestRefused       a parameter of a request cannot be as it is; names it
├── ImageRefused         an image that was sent cannot be used; names the part of the request
│   ├── UnsupportedFormat    it is neither PNG nor JPEG
│   ├── BadImage             it is damaged
│   ├── ImageTooLarge        it has too many pixels
│   ├── AnimatedImage        it has several frames
│   └── ImageTooComplex      it is made to take long
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


class RequestRefused(JobsError):
    """A model cannot do what is asked.

    Args:
        parameter: that cannot be as it is.
        detail: why not, as a sentence for whoever asked.
    """

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"{parameter}: {detail}")
        self.parameter = parameter
        self.detail = detail


class ImageRefused(JobsError):
    """An image that was sent cannot be used.

    Args:
        detail: what is wrong this time; None for the text that fits every time.
        part: of the request that it came in; None while nobody has said so.
    """

    def __init__(self, detail: str | None = None, *, part: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.part = part


class UnsupportedFormat(ImageRefused):
    """It is neither PNG nor JPEG, whatever it is called."""


class BadImage(ImageRefused):
    """It cannot be decoded."""


class ImageTooLarge(ImageRefused):
    """It has more pixels than are decoded."""


class AnimatedImage(ImageRefused):
    """The file holds more than one image."""


class ImageTooComplex(ImageRefused):
    """The file has so many pieces that reading it would take long."""


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
