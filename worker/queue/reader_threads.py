"""Makes claimed jobs ready to step: threads read their uploads and snapshots from a store that may be slow or hang.

Meanwhile all other jobs continue, and the claim is kept alive. A worker that is to stop does not wait for the store.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from rq.job import Job as RqJob

from difuso.jobs.contract import Job
from difuso.jobs.errors import PluginMissing, StoreUnavailable
from difuso.jobs.redis import keys
from difuso.jobs.redis.job_records import PUT_OFF_AT, PUT_OFFS
from difuso.jobs.store.result_store import ResultStore

from ..device.cores import use_one_core
from ..engine.active import ActiveJob
from ..engine.failures import Cancelled, JobRefused
from ..engine.held_jobs import Claim
from ..engine.served_models import Models
from .job_reading import ModelIsLoading, ModelIsMissing, StoreNeeded, read_job
from .outcomes import Outcomes
from .rq_base import RqBase
from .stranded import REFUSED_SECONDS

log = logging.getLogger(__name__)

THREADS = 4
MIN_PUT_OFFS = 3
# Errors that another try, or another worker, may not meet, and the seconds without claims after them. A missing store
# concerns all jobs, a missing model or plug-in only the job that goes to the end of its queue.
OF_THE_MOMENT = {StoreUnavailable: 2.0, ModelIsMissing: 0.2, PluginMissing: 0.2}


@dataclass(frozen=True, eq=False)
class JobRead:
    """A reader thread is done: `active` is ready to step, or `error` says why the job is not."""

    claim: Claim
    active: ActiveJob | None = None
    error: Exception | None = None


class JobReaders:
    """Reader threads. The public methods are for the main thread only.

    Args:
        outcomes: ends the jobs that cannot be read.
        store: the store that jobs are read from; its deadlines end a read that hangs.
        report: function that receives results, called in a reader thread; it must not block.
        bind: binds a job whose second model is missing to another version of it, if nobody holds its own; returns why
            no live worker can draw it, or None.
        store_wait: seconds for which a job may be put off at least because of the store.

    Attributes:
        claims: the claimed jobs that are being read.
        waiting: those of `claims` that need a model that is still to come.
    """

    def __init__(
        self,
        rq: RqBase,
        outcomes: Outcomes,
        store: ResultStore,
        models: Models,
        report: Callable[[Sequence[JobRead]], None],
        *,
        bind: Callable[[Job, Models], str | None],
        store_wait: float,
    ) -> None:
        self.claims: list[Claim] = []
        self.waiting: list[Claim] = []
        self._rq = rq
        self._outcomes = outcomes
        self._store = store
        self._models = models
        self._report = report
        self._bind = bind
        self._store_wait = store_wait
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="readers", initializer=use_one_core)

    def serve(self, models: Models) -> None:
        """Replaces the models of the worker, and reads again the jobs that have waited for one of them."""
        self._models = models
        waiting, self.waiting = self.waiting, []
        for claim in waiting:
            self._pool.submit(self._do_read, claim, models)

    def read(self, claim: Claim) -> None:
        """Reads a job: at once if the store has nothing of it, else in a thread."""
        self.claims.append(claim)
        event = _read(claim, self._models, None)
        if isinstance(event.error, StoreNeeded):
            self._pool.submit(self._do_read, claim, self._models)
        else:
            self._report([event])

    def take(self, event: JobRead) -> ActiveJob | None:
        """Returns a job that has been read, or None.

        A job that could not be read was put off or ended; one that needs a model that is still to come is kept. Raises
        torch.AcceleratorError if the device was lost.
        """
        claim, error = event.claim, event.error
        if claim not in self.claims:
            return None  # handed back meanwhile
        if isinstance(error, ModelIsLoading):
            self.waiting.append(claim)
            if not self._models.may_come(error.ref, ()):  # it came while the job was being read
                self.serve(self._models)
            return None
        self.claims.remove(claim)
        if isinstance(error, torch.AcceleratorError):
            raise error
        if error is not None and type(error) in OF_THE_MOMENT:
            self._put_off(claim, error)
        elif error is not None:  # whatever the error, only this job may fail
            log.warning("a job cannot be started", extra={"job_id": claim.record.id, "error": repr(error)})
            self._outcomes.refuse(claim, error)
        elif claim.record.put_off_at:
            self._rq.retry_until_deadline(
                lambda: self._rq.connection.hdel(RqJob.key_for(claim.record.id), PUT_OFF_AT, PUT_OFFS)
            )
        return event.active

    def drop(self, lost: Collection[Claim]) -> None:
        """Forgets jobs that another worker has now, because this one was frozen."""
        self.claims, self.waiting = (
            [each for each in some if each not in lost] for some in (self.claims, self.waiting)
        )

    def cancel(self, claim: Claim) -> None:
        """Ends a job that was cancelled while it was being read, without waiting for the store."""
        self.drop([claim])
        self._outcomes.refuse(claim, Cancelled())

    def hand_back(self) -> None:
        """Gives the jobs that are being read back to their queues."""
        while self.claims:  # the last one first, so that the order in the queue stays the same
            self._outcomes.release(self.claims.pop())
        self.waiting = []

    def close(self) -> None:
        """Stops the threads without waiting for running reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _do_read(self, claim: Claim, models: Models) -> None:
        self._report([_read(claim, models, self._store)])

    def _put_off(self, claim: Claim, error: Exception) -> None:
        """Returns a job to the end of its queue, or fails it if it has been put off for as long as it may run.

        For the store it is put off for `store_wait` seconds at least, as results wait for it. Between two tries it may
        wait much longer than that, in a long queue or while no worker runs. So it must also have been put off
        `MIN_PUT_OFFS` times. If no live worker can draw it, one that starts again has REFUSED_SECONDS to report.
        """
        record = claim.record
        patience = max(record.timeout, self._store_wait if isinstance(error, StoreUnavailable) else 0)
        if isinstance(error, ModelIsMissing):
            reason = self._rq.retry_until_deadline(partial(self._bind, error.job, self._models))
            if reason is not None:
                error, patience = JobRefused(reason), min(patience, REFUSED_SECONDS)
        if self._rq.retry_until_deadline(lambda: self._rq.connection.exists(keys.cancel(record.id))):
            self._outcomes.refuse(claim, Cancelled())
        elif record.put_offs >= MIN_PUT_OFFS and time.time() - record.put_off_at > patience:
            self._outcomes.refuse(claim, error)
        else:
            log.warning("a job goes back to its queue: %s", error, extra={"job_id": record.id})
            self._rq.retry_until_deadline(lambda: self._rq.hand_back(claim, at_front=False))


def _read(claim: Claim, models: Models, store: ResultStore | None) -> JobRead:
    try:
        return JobRead(claim, read_job(claim.record, models, store, attempt=claim.execution))
    except Exception as error:
        return JobRead(claim, error=error)
