"""The reasons why a job can end without images."""

import logging
from collections.abc import Mapping

from difuso.jobs.contract import FailureCode
from difuso.jobs.errors import JobUnreadable, StoreUnavailable
from difuso.model.errors import ForeignError, NonFiniteSample, PlanError

log = logging.getLogger(__name__)


class DeadlineExceeded(Exception):
    """The job ran longer than its timeout."""


class Cancelled(Exception):
    """The job was cancelled."""


class JobRefused(Exception):
    """No worker can draw the job, for the reason in the message, which its client is told."""


CODES = {
    JobRefused: FailureCode.REFUSED,
    DeadlineExceeded: FailureCode.TIMEOUT,
    NonFiniteSample: FailureCode.NONFINITE,
    ForeignError: FailureCode.NETWORK,
    StoreUnavailable: FailureCode.STORAGE,
    JobUnreadable: FailureCode.UNSUPPORTED,
    PlanError: FailureCode.UNSUPPORTED,
}


def failure_code(error: BaseException, about: Mapping[str, str | None]) -> FailureCode | None:
    """Returns the code that clients receive, or None for a cancelled job.

    An error without a code of its own is logged with its traceback, and what it is about, and so is an error of another
    package's code.
    """
    if isinstance(error, Cancelled):
        return None
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), FailureCode.INTERNAL)
    if code in (FailureCode.INTERNAL, FailureCode.NETWORK):
        log.error("a job failed", exc_info=error, extra=dict(about))
    return code
