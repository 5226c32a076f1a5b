"""From a claimed job to one that can step: what came with it is read in threads, from a store that may be slow or hang.

Meanwhile all other jobs go on, and the claim is kept alive. A worker that is to stop does not wait for the store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from jobs import keys
from jobs.errors import StoreUnavailable
from jobs.store import ResultStore

from .active import ActiveJob
from .failures import Cancelled
from .held_jobs import Claim
from .job_reading import read_job
from .outcomes import Outcomes
from .rq_base import RqBase
from .runner import Runner

log = logging.getLogger(__name__)

THREADS = 4


@dataclass(frozen=True, eq=False)
class JobRead:
    """What a reader thread says: the job is ready to step, or why it is not."""

    claim: Claim
    active: ActiveJob | None = None
    error: Exception | None = None


class JobReaders:
    """A few threads beside the main one, which calls all that is public here.

    Args:
        rq: the worker's side towards Redis.
        outcomes: ends what cannot be read.
        store: what jobs are read from; its own deadlines end the reading.
        tell: called from a reader thread with what came of it; must not block.

    Attributes:
        claims: what is being read.
    """

    def __init__(self, rq: RqBase, outcomes: Outcomes, store: ResultStore, tell: Callable[[JobRead], None]) -> None:
        self.claims: list[Claim] = []
        self._rq = rq
        self._outcomes = outcomes
        self._store = store
        self._tell = tell
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="readers")

    def read(self, claim: Claim, runners: Mapping[str, Runner]) -> None:
        """Begins to read a job, with the models that are served now."""
        self.claims.append(claim)
        self._pool.submit(self._do_read, claim, runners)

    def take(self, event: JobRead) -> ActiveJob | None:
        """Returns a job that has been read. One that could not be is put off or ended.

        Raises:
            torch.AcceleratorError: if the device was lost.
        """
        claim, error = event.claim, event.error
        if claim not in self.claims:
            return None  # handed back meanwhile
        self.claims.remove(claim)
        if isinstance(error, torch.AcceleratorError):
            raise error
        if isinstance(error, StoreUnavailable):
            self._put_off(claim, error)
        elif error is not None:  # nothing that one job holds may end all the others
            log.warning("a job cannot be started", extra={"job_id": claim.rq_job.id, "error": repr(error)})
            self._outcomes.refuse(claim, error)
        return event.active

    def drop_cancelled(self) -> None:
        """Ends what was cancelled meanwhile, so that it need not wait for the store."""
        if self.claims:
            flags = self._rq.connection.mget([keys.cancel(claim.rq_job.id) for claim in self.claims])
            for claim, flag in zip(list(self.claims), flags, strict=True):
                if flag is not None:
                    self.claims.remove(claim)
                    self._outcomes.refuse(claim, Cancelled())

    def hand_back(self) -> None:
        """Gives the jobs that are being read to other workers."""
        while self.claims:  # the last one first, so that they stand in their queues as before
            self._return(self.claims.pop(), at_front=True)

    def close(self) -> None:
        """Does not wait for reads that go on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _do_read(self, claim: Claim, runners: Mapping[str, Runner]) -> None:
        try:
            active = read_job(claim.rq_job, runners, self._store, attempt=claim.execution.id)
        except Exception as error:
            self._tell(JobRead(claim, error=error))
        else:
            self._tell(JobRead(claim, active))

    def _put_off(self, claim: Claim, error: StoreUnavailable) -> None:
        """A job that cannot be read now waits at the end of its queue, at most as long as it might run."""
        job = claim.rq_job
        if self._rq.insist(lambda: self._rq.connection.exists(keys.cancel(job.id))):
            self._outcomes.refuse(claim, Cancelled())
        elif time.time() - job.created_at.timestamp() > (job.timeout or 0):
            self._outcomes.refuse(claim, error)
        else:
            log.warning("a job goes back to its queue: the store cannot be read", extra={"job_id": job.id})
            self._return(claim, at_front=False)

    def _return(self, claim: Claim, *, at_front: bool) -> None:
        self._rq.insist(lambda: self._rq.hand_back(claim.rq_job, claim.queue, claim.execution, at_front=at_front))
