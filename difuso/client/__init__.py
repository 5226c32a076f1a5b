"""A client of difuso's HTTP API. It needs httpx, httpx-sse, NumPy and Pillow, and of difuso only `terminal`.

options, images    what a request holds
flows, events      the next question to the server, given its last answer; no input or output
requests           the methods that both clients, and the jobs of both, share
clients            the clients: they send what the flows ask for
results, errors    what comes back
"""

from .clients import AsyncClient, AsyncJob, Client, Job
from .errors import (
    DifusoError,
    IdempotencyConflict,
    ImageRefused,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    LimitReached,
    ModelUnavailable,
    NotFound,
    NotReady,
    Overloaded,
    Problem,
    ResultExpired,
    TimedOut,
    Unauthorized,
    Unavailable,
    Unreachable,
    VersionGone,
)
from .events import Ended, Event, Preview, Progress
from .images import ImageLike
from .results import Price, Result

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "DifusoError",
    "Ended",
    "Event",
    "IdempotencyConflict",
    "ImageLike",
    "ImageRefused",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobFailed",
    "LimitReached",
    "ModelUnavailable",
    "NotFound",
    "NotReady",
    "Overloaded",
    "Preview",
    "Price",
    "Problem",
    "Progress",
    "Result",
    "ResultExpired",
    "TimedOut",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "VersionGone",
]
