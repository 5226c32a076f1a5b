"""The jobs that a worker holds: claimed, and then, once what came with them is read, in flight."""

from __future__ import annotations

from dataclasses import dataclass

from rq import Queue
from rq.executions import Execution

from jobs.rq_job import DataJob

from .active import ActiveJob


@dataclass(frozen=True, eq=False)
class Claim:
    """A job that is ours, as RQ knows it."""

    rq_job: DataJob
    queue: Queue
    execution: Execution

    @property
    def wants_no_company(self) -> bool:
        """Nothing is claimed beside it."""
        return self.rq_job.is_suspect


@dataclass(frozen=True, eq=False)
class RunningJob(Claim):
    """One that steps: RQ's view of it and ours."""

    active: ActiveJob

    @property
    def wants_no_company(self) -> bool:
        return self.active.alone or self.active.release
