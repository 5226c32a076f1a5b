"""What a worker does to the records of RQ, for many jobs in flight.

RQ's own workers run one job at a time, and jobs of a process that died wait for many minutes. So this one only shares
their queues, jobs, executions and registries. Here an execution expires 12 s after its last heartbeat, and every worker
looks for dead ones (`worker.queue.recovery`).
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
from rq import Queue
from rq.defaults import DEFAULT_RESULT_TTL
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from jobs.redis.queues import NAMES, known_queues
from jobs.redis.refusals import is_refused_for_good
from jobs.redis.rq_job import DEATHS, MAX_RETRIES, PUT_OFF_AT, PUT_OFFS, RESUMED_AT, DataJob

from ..engine.held_jobs import Claim
from .claims import add_start
from .recovery import EXECUTION_TTL, Recovery

log = logging.getLogger(__name__)

Result = TypeVar("Result")


# Forgets the name of a queue, unless one of its lists and registries is there. Its next job brings it back.
_FORGET = """
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return end
end
redis.call('SREM', KEYS[1], ARGV[1])
"""


class GaveUp(Exception):
    """The time in which this worker may wait for Redis or the store is over."""


class RqBase:
    """A worker's operations on Redis: heartbeats, claims, recovery and hand-over, each safe to repeat.

    Args:
        client: the connection to Redis, with a socket timeout of some seconds.
        queue_names: the queues to claim from, in order of urgency.

    Attributes:
        executions: the jobs that run here, as RQ knows them, by the execution's id.
        turns: grows as long as the main thread lives, for the watchdog.
        give_up_at: time on the monotonic clock at which waiting for Redis ends; infinite until the worker is to stop.
    """

    def __init__(self, client: redis.Redis, queue_names: list[str], name: str) -> None:
        self.connection = client
        self.name = name
        self.executions: dict[str, Execution] = {}
        self.turns = 0
        self._trouble_at = -float("inf")
        self._last_beat = time.monotonic()
        self._recovery = Recovery(client)
        self.give_up_at = float("inf")
        self.listen_to(queue_names)

    def listen_to(self, queue_names: list[str]) -> None:
        """Replaces the queues that jobs are claimed from."""
        self.queues = list(map(self._queue, queue_names))

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self.connection, job_class=DataJob, serializer=JSONSerializer)

    def _known(self) -> list[Queue]:
        """Returns the queues of all versions, also of those that no worker holds any longer."""
        own = {queue.name for queue in self.queues}
        others = (str(name) for name in known_queues(self.connection))
        return [*self.queues, *(self._queue(name) for name in others if name not in own)]

    # Waiting for Redis, which may go away at any time.

    def retry_until_deadline(self, call: Callable[[], Result]) -> Result:
        """Repeats a call until it succeeds.

        Raises:
            GaveUp: if it still fails after `give_up_at`.
            redis.ResponseError: if Redis refuses it because of the data that it holds.
        """
        pause = 0.2
        while True:
            self.turns += 1
            try:
                return call()
            except redis.exceptions.DataError:
                raise  # our mistake, which no retry mends
            except redis.RedisError as error:  # away, loading, read-only, out of memory or disk: all may pass
                if time.monotonic() > self.give_up_at:
                    raise GaveUp from error
                log.warning("a command to Redis failed (%s: %s); trying again", type(error).__name__, error)
                if is_refused_for_good(error):
                    raise
                self.note_trouble()
                time.sleep(pause)
                pause = min(2 * pause, 1.0)

    def note_trouble(self) -> None:
        """Remembers that Redis did not answer."""
        self._trouble_at = time.monotonic()

    @property
    def heartbeat_due(self) -> bool:
        """Whether Redis was away since the last heartbeat, so that the next one is due at once."""
        return self._trouble_at > self._last_beat

    def beat(self, running: Iterable[Claim]) -> None:
        """Sends the heartbeats of the jobs that run here."""
        self._last_beat = time.monotonic()
        with self.connection.pipeline() as pipe:
            for claim in running:
                claim.execution.heartbeat(claim.rq_job.started_job_registry, EXECUTION_TTL, pipeline=pipe)
            pipe.execute()

    @contextmanager
    def transaction(self, jobs: Iterable[RqJob]) -> Iterator[Any]:
        """Yields a pipeline whose commands Redis carries out as one, at `execute`, and once, though the reply is lost.

        Check inside whether the jobs are still ours. If somebody takes one after that, `execute` raises
        `redis.WatchError` and nothing is written. A watch also keeps redis-py from sending the commands twice.
        """
        with self.connection.pipeline() as pipe:
            pipe.watch(*(job.key for job in jobs))  # type: ignore[no-untyped-call]
            pipe.multi()
            yield pipe

    # Claims.

    def start(self, popped: Sequence[tuple[DataJob, Queue]]) -> list[Execution | None]:
        """Marks popped jobs as running here, in one transaction, and removes executions of an interrupted try.

        If another worker recovered a job because this one was frozen after the pop, its execution is None and nothing
        of it is written.
        """
        jobs = {job.id: job for job, _ in popped}
        stale = [execution for execution in self.executions.values() if execution.job_id in jobs]
        with self.connection.pipeline() as pipe:
            started = [add_start(pipe, job, queue, self.name) for job, queue in popped]
            self.executions |= {execution.id: execution for execution in started}
            for execution in stale:
                execution.delete(job=jobs[execution.job_id], pipeline=pipe)
            answers = pipe.execute()
        ours = [execution if its else None for execution, its in zip(started, answers, strict=False)]
        for execution in {*stale, *started} - {*ours}:
            del self.executions[execution.id]
        return ours

    def credit(self, job: DataJob, image_steps: int) -> None:
        """Gives a job its tries back if the image-steps of its snapshot are more than at its last start."""
        if image_steps > job.resumed_at:
            self.connection.hset(job.key, mapping={RESUMED_AT: image_steps, "retries_left": MAX_RETRIES})
            job.resumed_at, job.retries_left = image_steps, MAX_RETRIES

    def owns(self, job: RqJob, execution: Execution) -> bool:
        """Returns whether the job is still ours (the fence): False once another worker has it, or once it has ended.

        The hash of a running job does not expire. If it is gone, Redis lost its data, and no other worker has the job.
        """
        if self.connection.zscore(job.started_job_registry.key, execution.composite_key) is not None:
            return True
        if not self.connection.exists(job.key):
            with self.connection.pipeline() as pipe:
                job.save(pipeline=pipe)
                job.started_job_registry.add_execution(execution, pipeline=pipe, ttl=EXECUTION_TTL)
                pipe.execute()
            return True
        self.executions.pop(execution.id, None)
        return False

    def was_given_away(self, job: DataJob) -> bool:
        """Returns whether the job has been taken from this worker, as from a dead one, since it was claimed."""
        deaths: Any = self.connection.hget(job.key, DEATHS)
        return int(deaths or 0) > job.deaths

    def owned(self, claims: Sequence[Claim]) -> list[bool]:
        """Returns for each job whether it `owns` it, in one round trip while all of them are ours."""
        with self.connection.pipeline(transaction=False) as pipe:
            for claim in claims:
                pipe.zscore(claim.rq_job.started_job_registry.key, claim.execution.composite_key)
            scores = pipe.execute()
        found = zip(claims, scores, strict=True)
        return [score is not None or self.owns(claim.rq_job, claim.execution) for claim, score in found]

    def succeed(self, pipe: Any, claim: Claim, result: dict[str, int]) -> None:
        """Adds to a transaction all that RQ writes when a job that this worker owns has succeeded."""
        job, execution = claim.rq_job, claim.execution
        job.ended_at = now()
        job._result = result
        ttl = job.get_result_ttl(DEFAULT_RESULT_TTL)
        times = {"execution_started_at": execution.created_at, "execution_ended_at": job.ended_at}
        job._handle_success(ttl, pipeline=pipe, worker_name=self.name, execution_id=execution.id, **times)
        job.cleanup(ttl, pipeline=pipe, remove_from_queue=False)
        self._leave(pipe, job, execution)

    def fail(self, job: DataJob, execution: Execution, error: BaseException, *, stopped: bool) -> bool:
        """Ends a job without a result: as cancelled if `stopped`, else as failed for good (see `DataJob.should_retry`).

        Returns False if the job is not ours any more.
        """
        with self.transaction([job]) as pipe:
            if not self.owns(job, execution):
                return False
            job.ended_at = now()
            job.set_status(RqStatus.STOPPED if stopped else RqStatus.FAILED, pipeline=pipe)
            self._leave(pipe, job, execution)
            told = ascii(error)  # its message may hold characters that cannot be encoded
            times = {"execution_started_at": execution.created_at, "execution_ended_at": job.ended_at}
            job._handle_failure(told, pipeline=pipe, worker_name=self.name, execution_id=execution.id, **times)
            try:
                pipe.execute()
            except (redis.WatchError, redis.ConnectionError, redis.TimeoutError):  # perhaps only the reply was lost
                entry = execution.composite_key
                if self.connection.zscore(job.started_job_registry.key, entry) is not None or self.was_given_away(job):
                    raise
        return True

    def hand_back(self, job: RqJob, queue: Queue, execution: Execution, *, at_front: bool = True) -> None:
        """Puts a running job back into its queue, without using up one of its retries.

        At the end of the queue it waits for what it needs. Its record says since when, and how often it was tried. A
        repeated call changes nothing.
        """
        with self.transaction([job]) as pipe:
            if not self.owns(job, execution):
                return
            self._leave(pipe, job, execution)
            job.set_status(RqStatus.QUEUED, pipeline=pipe)
            queue.push_job_id(job.id, pipeline=pipe, at_front=at_front)
            if at_front:
                pipe.hset(job.key, "enqueued_at", utcformat(now()))
            else:
                pipe.hsetnx(job.key, PUT_OFF_AT, str(time.time()))
                pipe.hincrby(job.key, PUT_OFFS, 1)
            pipe.execute()

    def _leave(self, pipe: Any, job: RqJob, execution: Execution) -> None:
        execution.delete(job=job, pipeline=pipe)
        self.executions.pop(execution.id, None)

    def recover(self) -> list[DataJob]:
        """Returns the jobs of dead workers to their queues. Returns the jobs that are given up instead."""
        return self._recovery.run(self._known())

    def tidy(self) -> None:
        """Removes expired entries from RQ's registries, and queues without any; several workers may do so at once."""
        for queue in self._known():
            registries = queue.finished_job_registry, queue.failed_job_registry
            for registry in registries:
                registry.cleanup()
            kept = queue.key, queue.intermediate_queue.key, queue.started_job_registry.key
            names = (NAMES, *kept, *(registry.key for registry in registries))
            self.connection.eval(_FORGET, len(names), *names, queue.key)
