"""The jobs that a worker holds: claimed at first, and in flight once their uploads and snapshots are read."""

from dataclasses import dataclass, field

from difuso.jobs.redis.job_records import JobRecord
from difuso.jobs.redis.keys import QueueName

from .active import ActiveJob


@dataclass(frozen=True, eq=False)
class Claim:
    """A job that this worker has claimed; its `execution` is the name of this try, which no other try of it has."""

    record: JobRecord
    execution: str

    @property
    def queue(self) -> QueueName:
        return self.record.queue

    @property
    def entry(self) -> str:
        """The name of this try among the running jobs; as long as it is there, the job is ours."""
        return f"{self.record.id}:{self.execution}"

    @property
    def wants_no_company(self) -> bool:
        """Whether no other job may be claimed with this one."""
        return self.record.is_suspect


@dataclass(frozen=True, eq=False)
class RunningJob(Claim):
    """A claimed job that steps."""

    active: ActiveJob = field(kw_only=True)

    @property
    def wants_no_company(self) -> bool:
        return self.active.alone or self.active.release
