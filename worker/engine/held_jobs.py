"""The jobs that a worker holds: claimed at first, and in flight once their uploads and snapshots are read."""

from dataclasses import dataclass

from rq import Queue
from rq.executions import Execution

from jobs.redis.rq_job import DataJob

from .active import ActiveJob


@dataclass(frozen=True, eq=False)
class Claim:
    """A job that this worker has claimed, as RQ knows it."""

    rq_job: DataJob
    queue: Queue
    execution: Execution

    @property
    def wants_no_company(self) -> bool:
        """Whether no other job may be claimed with this one."""
        return self.rq_job.is_suspect


@dataclass(frozen=True, eq=False)
class RunningJob(Claim):
    """A claimed job that steps."""

    active: ActiveJob

    @property
    def wants_no_company(self) -> bool:
        return self.active.alone or self.active.release
