"""RQ's worker bent to many jobs in flight: what of RQ is used, and what is done in its place.

RQ's own workers run one job at a time and, when a process dies, leave its jobs alone for many minutes. Here executions
live 15 s between heartbeats, recovery runs every 5 s under a lock that dies with its owner, and nothing else of RQ that
starts processes, threads or timers is used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from rq import Queue, worker_registration
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer
from rq.worker.base import BaseWorker

from jobs.rq_job import DataJob

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5
EXECUTION_TTL = 15  # three heartbeats may be missed before a job is given to another worker
WORKER_TTL = 60
POPPED_SECONDS = 10  # a job that was popped but never started goes back after this
GRACE_SECONDS = 2 * EXECUTION_TTL
LOCK_SECONDS = 10

# One script, since the job may be started between a look and the put-back.
_RETURN_POPPED = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then
  redis.call('DEL', KEYS[2])
  redis.call('LPUSH', KEYS[3], ARGV[1])
end
"""

Result = TypeVar("Result")


class GaveUp(Exception):
    """Redis stayed away beyond the time that this worker may wait."""


class RqBase(BaseWorker):
    """The Redis side of a worker: registration, heartbeats, claims, recovery and hand-over, each safe to repeat.

    Args:
        client: with a socket timeout of some seconds.
        queue_names: in order of urgency.
        name: of this process, never used again.
    """

    def __init__(self, client: redis.Redis, queue_names: list[str], name: str) -> None:
        super().__init__(
            _queues(client, queue_names),
            name=name,
            connection=client,
            job_class=DataJob,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL,
            maintenance_interval=HEARTBEAT_SECONDS,
            job_monitoring_interval=HEARTBEAT_SECONDS,
        )
        self._trouble_at = -float("inf")
        self._last_beat = time.monotonic()
        self.give_up_at = float("inf")

    def listen_to(self, queue_names: list[str]) -> None:
        """Changes the queues that jobs are claimed from."""
        self.queues = _queues(self.connection, queue_names)

    # What RQ asks of a worker, answered for this kind.

    @property
    def connection_timeout(self) -> int:
        return 10

    def get_heartbeat_ttl(self, job: RqJob, working_time: float = 0.0) -> int:
        return EXECUTION_TTL

    def subscribe(self) -> None:
        """No command channel: a message can be missed, so cancelling is data that the worker reads."""

    def handle_exception(self, job: RqJob, *exc_info: Any) -> None:
        """Nothing: what failed is logged where it is known why, and a cancelled job is no error."""

    def unsubscribe(self) -> None:
        """There is nothing to unsubscribe from."""

    # Redis may go away at any time.

    def insist(self, call: Callable[[], Result]) -> Result:
        """Repeats a call until Redis answers.

        Raises:
            GaveUp: when that takes beyond `give_up_at` (a worker that was told to stop).
        """
        pause = 0.2
        while True:
            try:
                return call()
            except redis.exceptions.DataError:
                raise  # ours: it would never pass
            except redis.RedisError as error:  # away, loading, full, read-only, a disk that is full: all may pass
                if time.monotonic() > self.give_up_at:
                    raise GaveUp from error
                log.warning("Redis does not do as asked (%s: %s); trying again", type(error).__name__, error)
                self.note_trouble()
                time.sleep(pause)
                pause = min(2 * pause, 2.0)

    def note_trouble(self) -> None:
        """Remembers that Redis did not answer just now; see `recover`."""
        self._trouble_at = time.monotonic()

    def register(self) -> None:
        """Makes this worker known. A repeated try must not stumble over its own first half."""
        self.connection.delete(self.key)
        self.bootstrap(logging_level="WARNING")

    def beat(self, running: list[tuple[RqJob, Execution]]) -> None:
        """Says that this worker and its executions live."""
        now = time.monotonic()
        if now - self._last_beat > 2 * HEARTBEAT_SECONDS:  # we were frozen, or a single call waited for Redis
            self.note_trouble()
        self._last_beat = now
        self.heartbeat(WORKER_TTL)
        worker_registration.register(self)
        for job, execution in running:
            self.maintain_heartbeats(job, execution)

    # Claims.

    def pop(self, queue: Queue) -> RqJob | None:
        """Takes the next job off a queue. Until `start` it stands in RQ's intermediate queue: a crash loses nothing."""
        popped = Queue.lmove(self.connection, queue.key, None)
        if popped is None:
            return None
        job_id = popped[1].decode()
        try:
            job = queue.fetch_job(job_id)
            if job is not None:
                _ = job.func_name, job.kwargs  # RQ reads them when it starts a job, and would fall over there
                return job
        except redis.RedisError:
            raise
        except Exception:
            log.exception("the queue holds %s, which is no job", job_id)
            self.connection.hset(RqJob.key_for(job_id), "status", RqStatus.FAILED)
            self.connection.expire(RqJob.key_for(job_id), WORKER_TTL)
        queue.intermediate_queue.remove(job_id)
        return None

    def start(self, job: RqJob, queue: Queue) -> Execution | None:
        """Marks a popped job as running here. Removes what an interrupted try before left behind.

        None if the job was taken back meanwhile: this worker was frozen after `pop`.
        """
        popped = queue.intermediate_queue
        stale = [execution for execution in self.executions.values() if execution.job_id == job.id]
        with self.connection.pipeline() as pipe:
            for execution in stale:
                execution.delete(job=job, pipeline=pipe)
            pipe.delete(popped.get_first_seen_key(job.id))
            pipe.lpos(popped.key, job.id)
            position = pipe.execute()[-1]
        for execution in stale:
            self.executions.pop(execution.id, None)
        if position is None and not stale:
            return None
        execution = self.prepare_execution(job)
        self.prepare_job_execution(job, remove_from_intermediate_queue=True)
        return execution

    def owns(self, job: RqJob, execution: Execution) -> bool:
        """The fence: False once somebody else has been given the job, or it is settled already.

        A running job's hash has no time to live: if it is gone, Redis came back empty, and nobody else has the job.
        """
        if self.connection.zscore(job.started_job_registry.key, execution.composite_key) is not None:
            return True
        if not self.connection.exists(job.key):
            job.save()
            return True
        self.executions.pop(execution.id, None)
        return False

    def succeed(self, job: RqJob, queue: Queue, execution: Execution, result: dict[str, int]) -> None:
        """Ends a job that this worker `owns`."""
        self._finalize_success(job, queue, execution, result)

    def fail(self, job: RqJob, queue: Queue, execution: Execution, error: BaseException, *, stopped: bool) -> bool:
        """Ends a job without a result: cancelled if `stopped`, else failed for good (see `DataJob.should_retry`).

        Returns False if the job is not ours any more.
        """
        if not self.owns(job, execution):
            return False
        if stopped:
            self._stopped_job_id = job.id
        self._finalize_failure(job, queue, execution, (type(error), error, None))
        # RQ only logs a commit that failed; the execution's entry tells whether it went through.
        if self.connection.zscore(job.started_job_registry.key, execution.composite_key) is not None:
            raise redis.ConnectionError("the failure was not written")
        return True

    def hand_back(self, job: RqJob, queue: Queue, execution: Execution, *, at_front: bool = True) -> None:
        """Puts a running job back into its queue, without using up one of its retries."""
        if not self.owns(job, execution):
            return
        with self.connection.pipeline() as pipe:
            self.cleanup_execution(job, pipeline=pipe, execution=execution)
            job.set_status(RqStatus.QUEUED, pipeline=pipe)
            queue.push_job_id(job.id, pipeline=pipe, at_front=at_front)
            pipe.execute()

    # Recovery.

    def recover(self) -> None:
        """Gives the jobs of dead workers back to their queues; one worker at a time.

        After an outage the marks of live executions are as old as those of dead ones, so everybody waits until each
        worker has had time to beat.
        """
        uptime = int(self.connection.info("server")["uptime_in_seconds"])
        if min(uptime, time.monotonic() - self._trouble_at) < GRACE_SECONDS:
            return
        # redis-py's lock, since RQ's lives 15 minutes and outlasts a worker that dies while holding it.
        lock = self.connection.lock("difuso:maintenance", timeout=LOCK_SECONDS)
        if not lock.acquire(blocking=False):
            return
        try:
            for queue in self.queues:
                queue.started_job_registry.cleanup()
                self._return_popped(queue)
        finally:
            try:
                lock.release()
            except redis.exceptions.LockError:
                log.warning("recovery took longer than its lock")

    def _return_popped(self, queue: Queue) -> None:
        """Puts back jobs whose worker died between `pop` and `start`."""
        popped = queue.intermediate_queue
        for job_id in popped.get_job_ids():
            first_seen = popped.get_first_seen(job_id)
            if first_seen is None:
                popped.set_first_seen(job_id)
            elif time.time() - first_seen.timestamp() > POPPED_SECONDS:
                names = (popped.key, popped.get_first_seen_key(job_id), queue.key)
                self.connection.eval(_RETURN_POPPED, len(names), *names, job_id)

    def tidy(self) -> None:
        """Removes from RQ's lists what has passed its time; several workers may do so at once."""
        for queue in self.queues:
            queue.finished_job_registry.cleanup()
            queue.failed_job_registry.cleanup()
            worker_registration.clean_worker_registry(queue)


def _queues(client: redis.Redis, names: list[str]) -> list[Queue]:
    return [Queue(name, connection=client, job_class=DataJob, serializer=JSONSerializer) for name in names]
