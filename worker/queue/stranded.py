"""Jobs in queues that no live worker takes, because a version of a model or of difuso is gone or not there yet.

A rollout passes through this. A job that asked for no version is bound to the newest that a worker holds. One that did
waits for its version, and one that needs a newer difuso for a newer worker, for DIFUSO_VERSION_WAIT. A job of a
model that every worker refuses fails with their reason. A worker judges only jobs of models that it serves: others
wait for workers of their own, which may all sleep. A worker lets go of a version that no folder holds any longer
once it has had no jobs for a while.
"""

import json
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import redis
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus

from difuso.jobs import understanding
from difuso.jobs.contract import FailureCode, Job
from difuso.jobs.errors import PluginMissing
from difuso.jobs.redis.job_records import VERSIONS, JobRecord
from difuso.jobs.redis.keys import QueueName, known_queues, queue_key, queues_of, running_key
from difuso.jobs.redis.queued import bind_queued, drop_unreadable, end_queued, wake
from difuso.jobs.redis.workers import WorkerReport, apart, ask_reports, held_refs, live_reports, read_reports, refusal

from ..engine.active import ActiveJob
from ..engine.served_models import Models
from ..settings import WorkerSettings
from .job_reading import decode
from .reporting import Reporter

log = logging.getLogger(__name__)

BIND_SECONDS = 3.0  # without a worker that takes the queue: one that starts again has reported by then
REFUSED_SECONDS = 30.0  # in which every worker has loaded or refused the model
LOOKAHEAD = 1000  # jobs of a queue that one look examines
LINGER_SECONDS = 30.0  # without jobs; front ends look for newer versions every 5 s, and then ask for this one no more
AT_ONCE = 50  # records that are read in one round trip: those with long vectors may have megabytes


class Stranded:
    """Looks after the queues that no live worker takes, each for as long as this worker has seen it so."""

    def __init__(self, client: redis.Redis, reporter: Reporter, settings: WorkerSettings) -> None:
        self._client = client
        self._reporter = reporter
        self._version_wait, self._serves = settings.version_wait, settings.serves
        self._ttl = 2 * settings.result_ttl
        self._since: dict[QueueName, float] = {}

    def look(self, models: Models) -> list[JobRecord]:
        """Binds and ends jobs; returns those that it ended. Several workers may look at once."""
        names = [name for name in known_queues(self._client) if self._serves(name.model)]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(queue_key(name))
            ask_reports(pipe)
            *lengths, answer = pipe.execute()
        workers, now = read_reports(answer), time.monotonic()
        waiting = [name for name, length in zip(names, lengths, strict=True) if length]
        left = [name for name in waiting if not any(_takes(worker, name) for worker in workers)]
        self._since = {name: self._since.get(name, now) for name in left}
        ended: list[JobRecord] = []
        for name, since in self._since.items():
            if now - since >= BIND_SECONDS and name.contract <= understanding.CONTRACT:
                self._bind(name, models, workers)
            ended += self._end(name, workers, seconds=now - since)
        return ended

    def bind_second(self, job: Job, models: Models) -> str | None:
        """Binds the second stage of a claimed job to the newest version here, if no live worker holds both of its own.

        It does so for pinned jobs, too: they ask for a version of their own model. Returns why no live worker can draw
        the job; None if one may.
        """
        workers = live_reports(self._client)
        version = models.version(models.newest(job.models[-1]))
        if version is not None and not any(all(map(each.holds, job.refs)) for each in workers):
            job = job.bound_to((*job.versions[:1], version))
            self._client.hset(RqJob.key_for(job.id), VERSIONS, json.dumps(job.versions))
        return apart(job.refs, workers)

    def _bind(self, name: QueueName, models: Models, workers: Sequence[WorkerReport]) -> None:
        target = models.newest(name.model)
        if target is None or target == name.ref:
            return
        for _, job in self._jobs(name):
            if job is not None and not job.pinned:
                bound = job.bound_to(_versions(job, models, workers))
                void = None if bound.ref == job.ref else bind_queued(self._client, bound, name)
                if void is not None:
                    facts = {"from": job.ref, "to": bound.ref, "image_steps": void}
                    log.info("job bound to another version", extra={**job.trail, **facts})
        wake(self._client, target)

    def _end(self, name: QueueName, workers: Sequence[WorkerReport], *, seconds: float) -> Iterator[JobRecord]:
        """Ends the jobs of a queue that has been left so long that nobody will take them; yields them."""
        reason = refusal(name.ref, workers) if seconds >= REFUSED_SECONDS else None
        for record, job in self._jobs(name) if reason or seconds >= self._version_wait else ():
            if reason is not None:
                code = FailureCode.REFUSED
            elif job is None:
                code = FailureCode.UNSUPPORTED
            elif job.pinned:
                code = FailureCode.VERSION_GONE
            else:
                continue  # workers of this model may come back, however late
            self._reporter.not_started(record.id, code, reason)
            if end_queued(self._client, record.id, name, RqStatus.FAILED, ttl=self._ttl):
                facts = {"job_id": record.id, "ref": name.ref, "contract": name.contract, "code": code.value}
                log.warning("a job ends that no worker takes", extra=facts)
                yield record

    def _jobs(self, name: QueueName) -> Iterator[tuple[JobRecord, Job | None]]:
        """Yields the jobs of a queue; None in place of one that this worker cannot read and another may."""
        entries: Any = self._client.lrange(queue_key(name), 0, LOOKAHEAD - 1)
        for entry, fields in self._records(entries):
            try:
                record = JobRecord.of(entry.decode(), fields)
                if record.queue != name:
                    continue  # another worker has just bound it
                job = None if name.contract > understanding.CONTRACT else decode(record)
            except PluginMissing:
                yield record, None
            except Exception as error:  # of whatever kind: it is no job
                drop_unreadable(self._client, entry, error, "LREM", queue_key(name), 1, entry)
            else:
                yield record, job

    def _records(self, entries: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
        """Yields each entry with the record of the job that it names."""
        for first in range(0, len(entries), AT_ONCE):
            some = entries[first : first + AT_ONCE]
            with self._client.pipeline(transaction=False) as pipe:
                for entry in some:
                    pipe.hgetall(RqJob.key_for("").encode() + entry)
                yield from zip(some, pipe.execute(), strict=True)


class Superseded:
    """Notes since when each superseded version has had no jobs."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle_since: dict[str, float] = {}  # by ref

    def idle(self, refs: Collection[str], actives: Collection[ActiveJob]) -> list[str]:
        """Returns which of the superseded versions have had no jobs for a while, here or anywhere.

        `actives` run here, and may use a version as their second one.
        """
        used = {ref for active in actives for ref in active.job.refs}
        for ref in refs:
            if self._client.exists(*(key(name) for name in queues_of(ref) for key in (queue_key, running_key))):
                used.add(ref)  # on whatever worker
        now = time.monotonic()
        self._idle_since = {ref: self._idle_since.get(ref, now) for ref in refs if ref not in used}
        return [ref for ref, since in self._idle_since.items() if now - since >= LINGER_SECONDS]


def _takes(worker: WorkerReport, name: QueueName) -> bool:
    return worker.understands.contract >= name.contract and worker.holds(name.ref)


def _versions(job: Job, models: Models, workers: Sequence[WorkerReport]) -> tuple[str, ...]:
    """Returns the versions that a job can have: its own where a live worker holds them, else the newest held here."""
    held = held_refs(workers)
    newest = (models.version(models.newest(model)) for model in job.models)
    return tuple(
        version if ref in held or ours is None else ours
        for version, ref, ours in zip(job.versions, job.refs, newest, strict=False)
    )
