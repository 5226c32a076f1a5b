"""The reasons why a job can end without images."""

import logging
from collections.abc import Mapping

from jobs.contract import FailureCode
from jobs.errors import JobUnreadable, StoreUnavailable
from model.errors import NonFiniteSample, PlanError

log = logging.getLogger(__name__)


class DeadlineExceeded(Exception):
    """The job ran longer than its timeout."""


class Cancelled(Exception):
    """The job was cancelled."""


CODES = {
    DeadlineExceeded: FailureCode.TIMEOUT,
    NonFiniteSample: FailureCode.NONFINITE,
    StoreUnavailable: FailureCode.STORAGE,
    JobUnreadable: FailureCode.UNSUPPORTED,
    PlanError: FailureCode.UNSUPPORTED,
}


def failure_code(error: BaseException, about: Mapping[str, str | None]) -> FailureCode | None:
    """Returns the code that clients receive, or None for a cancelled job.

    An error without a code of its own is logged with its traceback.

    Args:
        about: fields for the log line that identify the job.
    """
    if isinstance(error, Cancelled):
        return None
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return code
    log.error("a job failed", exc_info=error, extra=dict(about))
    return FailureCode.INTERNAL
