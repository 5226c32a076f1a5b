"""The queue as front ends see it: submitting, reading and cancelling jobs."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial

import redis
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry

from ..contract import URGENCIES, Job, JobState, Manifest
from ..cost import NOTHING, Cost
from ..errors import IdempotencyConflict
from . import keys
from .backlog import Backlog, Forecast, read_backlog, read_forecast
from .events import Ending
from .holds import Held, Holds, hold, let_go, read_holds
from .index import Cursor, Page, Wanted, read_page
from .job_records import EXPIRED_AT, seconds_of
from .keys import QueueName, known_queues, queue_key, queues_of
from .limits import UNLIMITED, Ledger, Limits, Refusal, Usage
from .pools import note_asked, sleeping, start_seconds
from .queued import accept, end_queued
from .refusals import takes_no_writes
from .status import JobStatus, ask_statuses, read_status, request_hash_in, status_at_end, status_of_result
from .workers import WorkerReport, live_reports

REGISTRIES = {"started": StartedJobRegistry, "finished": FinishedJobRegistry, "failed": FailedJobRegistry}


# Without the check, a record that is forgotten at this moment would come back without an end.
_EXPIRE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) end"


_MOVE_FIRST = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
return redis.call('LPUSH', KEYS[1], ARGV[1])
"""


@dataclass(frozen=True)
class RedisHealth:
    """The state of Redis."""

    # memory_used, memory_max: the bytes that it uses, and those that it may use; 0 without a limit
    memory_used: int
    memory_max: int
    takes_writes: bool
    append_only_ok: bool  # whether it appends every write to a file, and the last write and rewrite succeeded


class JobQueue:
    """The queue for a front end. Its methods block, and raise redis.RedisError if Redis does not answer.

    Args:
        client: a client with timeouts and without retries, so that a failure of Redis is noticed within seconds.
        result_ttl: the time that images are kept, in seconds. Jobs are kept twice as long, so that an expired result
            differs from an unknown job.
        pools: the models with workers of their own.
    """

    def __init__(self, client: redis.Redis, *, result_ttl: int, pools: Collection[str] = ()) -> None:
        self._client = client
        self._result_ttl = result_ttl
        self._pools = pools

    def refusal(self, job: Job, cost: Cost, limits: Limits) -> Refusal | None:
        """Returns the limit of its owner that `submit` would find reached for a job now. Nothing is written."""
        ledger = self._ledger(job.owner, limits)
        return None if ledger is None else ledger.refusal(job.id, cost)

    def usage(self, owner: str, limits: Limits) -> Usage:
        """Returns what an owner has used of its limits."""
        ledger = self._ledger(owner, limits)
        return Usage(0, 0) if ledger is None else ledger.usage()

    def _ledger(self, owner: str | None, limits: Limits) -> Ledger | None:
        if owner is None or not limits.are_set:
            return None
        return Ledger(self._client, owner, limits, kept_seconds=self._result_ttl)

    def submit(
        self,
        job: Job,
        *,
        request_hash: str,
        cost: Cost = NOTHING,
        limits: Limits = UNLIMITED,
        listener: str | None = None,
        webhook: str | None = None,
    ) -> bool | Refusal:
        """Accepts a job, and returns whether it is new, or the limit of its owner that is reached.

        After it has returned whether it is new, the job is not lost. Its id is new, or made from an Idempotency-Key:
        the same request may have been accepted before. The front end `listener` hears of the end on its own channel,
        and the address `webhook` is called then.

        Raises IdempotencyConflict if the id belongs to a request with another hash.
        """
        ledger = self._ledger(job.owner, limits)
        ttl = self._result_ttl
        accepted = partial(accept, self._client, job, request_hash, result_ttl=ttl, ledger=ledger, cost=cost)
        call = partial(accepted, listener=listener, webhook=webhook)
        is_repeated = False
        try:
            answer = call()
        except (redis.ConnectionError, redis.TimeoutError):
            answer, is_repeated = call(), True  # perhaps only the reply was lost; then it knows the job
        if isinstance(answer, Refusal):
            return answer
        if answer is not None and request_hash_in(answer) != request_hash:
            raise IdempotencyConflict
        return answer is None or is_repeated

    def status(self, job_id: str, *, outlook: bool = True, timesteps: bool = False) -> JobStatus:
        """Returns the status of a job, raising like `read_status`; with its `timesteps`, which may be long, if asked.

        The `outlook` is the position and the ETA of a queued job, which take a second round trip.
        """
        (answer,) = ask_statuses(self._client, [job_id], timesteps=timesteps)
        status = read_status(*answer, result_ttl=self._result_ttl)
        if status.state is not JobState.QUEUED or not outlook:
            return status
        forecast = self.forecast(status.job, is_queued=True)
        return replace(status, position=forecast.position, eta_seconds=forecast.eta_seconds)

    def forecast(self, job: Job, *, is_queued: bool = False) -> Forecast:
        """Returns the forecast of a job, or of one that was not submitted, as if it were now. Nothing is written."""
        return read_forecast(self._client, job, queues_of(job.ref), self._pools, is_queued=is_queued)

    def status_at_end(self, before: JobStatus, ending: Ending, manifest: bytes | None = None) -> JobStatus:
        """Returns the status of a job whose end was announced, without its timesteps."""
        return status_at_end(before, ending, manifest, result_ttl=self._result_ttl)

    def status_of_result(self, manifest: Manifest) -> JobStatus:
        """Returns the status of a job by its result, without the times of its run; Redis is not asked."""
        return status_of_result(manifest, result_ttl=self._result_ttl)

    def page(self, owner: str | None, wanted: Wanted, *, most: int, after: Cursor | None = None) -> Page:
        """Returns a part of the list of an owner's jobs; see `index.read_page`."""
        return read_page(self._client, owner, wanted, most=most, after=after, result_ttl=self._result_ttl)

    def cancel(self, job_id: str) -> JobStatus:
        """Cancels a job, at once if it is queued, or at its next step if it runs; returns its status. Is idempotent."""
        status = self.status(job_id)
        if status.state.is_terminal:
            return status
        self._client.set(keys.cancel(job_id), 1, ex=2 * self._result_ttl)
        end_queued(self._client, job_id, QueueName.of(status.job), RqStatus.CANCELED, ttl=2 * self._result_ttl)
        return self.status(job_id)

    def move_first(self, job: Job) -> bool:
        """Moves a job to the head of its queue; returns False if it does not wait there."""
        return bool(self._client.eval(_MOVE_FIRST, 1, queue_key(QueueName.of(job)), job.id))

    def holds(self) -> Holds:
        """Returns what operators hold back."""
        return read_holds(self._client)

    def hold(self, held: Held, name: str) -> None:
        """Holds a model or a worker back. Is idempotent, as `let_go` is."""
        hold(self._client, held, name)

    def let_go(self, held: Held, name: str) -> None:
        let_go(self._client, held, name)

    def expire(self, job_id: str) -> None:
        """Notes that the images of a job that has ended are deleted from now on. Is idempotent."""
        self._client.eval(_EXPIRE, 1, RqJob.key_for(job_id), EXPIRED_AT, repr(time.time()))

    def backlog(self, ref: str, urgency: int = URGENCIES[-1]) -> Backlog:
        """Returns the unfinished work of a version before a job of this urgency, and the reports of workers."""
        behind = [name for name in queues_of(ref) if name.urgency > urgency]
        return read_backlog(self._client, ref, behind, self._pools)

    def workers(self) -> list[WorkerReport]:
        return live_reports(self._client)

    def asleep(self, workers: Iterable[WorkerReport]) -> dict[str, float | None]:
        """Returns the models whose workers the next job starts, with the seconds of the last start, if known."""
        return start_seconds(self._client, sleeping(self._pools, workers))

    def note_asked(self, model: str) -> None:
        """Notes that a first job waits for a sleeping model from now on."""
        note_asked(self._client, model)

    def depths(self) -> dict[QueueName, dict[str, int]]:
        """Returns the number of jobs by queue and state; RQ's own methods would also clean up registries."""
        names = known_queues(self._client)
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(queue_key(name))
                for registry in REGISTRIES.values():
                    pipe.zcard(registry.key_template.format(name))
            counts = iter(pipe.execute())
        return {name: {state: next(counts) for state in ("queued", *REGISTRIES)} for name in names}

    def oldest_age(self) -> float:
        """Returns the seconds since the oldest waiting job was queued; 0 if none is waiting."""
        with self._client.pipeline(transaction=False) as pipe:
            for name in known_queues(self._client):
                pipe.lindex(queue_key(name), 0)
            firsts = [job_id.decode() for job_id in pipe.execute() if job_id is not None]
            for job_id in firsts:
                pipe.hget(RqJob.key_for(job_id), "enqueued_at")
            times = [seconds_of(stamp) for stamp in pipe.execute()]
        return max([0.0, *(time.time() - since for since in times if since is not None)])

    def health(self) -> RedisHealth:
        """Returns the state of Redis, in which it tries to write."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.info("memory")
            pipe.info("persistence")
            memory, persistence = pipe.execute()
        statuses = {persistence.get(f"aof_last_{what}_status") for what in ("write", "bgrewrite")}
        append_only_ok = bool(persistence.get("aof_enabled")) and statuses == {"ok"}
        return RedisHealth(memory["used_memory"], memory.get("maxmemory", 0), self._takes_writes(), append_only_ok)

    def _takes_writes(self) -> bool:
        try:
            self._client.set(keys.PROBE, 1, ex=1)
        except redis.ResponseError as error:
            if takes_no_writes(error):
                return False
            raise
        return True
