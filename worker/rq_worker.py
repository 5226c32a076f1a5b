"""The engine worker: many RQ jobs in flight in one process, one batch on the device.

    main thread      all of Redis: claims, heartbeats, progress, cancel, results, hand-over
    engine thread    steps the batch (`worker.engine`); knows no Redis and no files
    writer threads   encode pictures and write to the result store

They meet in one inbox. A result is stored first, by whoever is first; then the fence is checked; then RQ is told. Each
step can be repeated, so Redis may go away at any moment.
"""

from __future__ import annotations

import logging
import queue
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Thread
from typing import Any

import redis
from rq import Queue
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.worker.base import WorkerStatus

from jobs import keys
from jobs.contract import TASK, URGENCIES, FailureCode, Job, ModelReport, Progress, WorkerReport
from jobs.errors import JobUnreadable, StoreUnavailable
from jobs.events import preview_channel, status_channel
from jobs.store import ResultStore
from jobs.workers import prune_reports, publish_report, withdraw_report
from model.errors import NonFiniteSample, PlanError

from .active import ActiveJob, Finished, Previewed, Snapped, activate
from .engine import Cancelled, DeadlineExceeded, StepEngine
from .metrics import WorkerMetrics
from .results import preview_message, store_result
from .rq_base import HEARTBEAT_SECONDS, GaveUp, RqBase
from .runner import Runner
from .trajectory import encode_snapshot

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05  # how often a busy worker looks for new jobs and cancelled ones
IDLE_SECONDS = 1  # how long an idle one blocks
PROGRESS_SECONDS = 1.0
STALL_SECONDS = 60.0  # a step that takes longer hangs
SWEEP_SECONDS = 600.0


class EngineStalled(Exception):
    """The engine's thread ended or hangs; the process must be replaced."""


@dataclass(frozen=True, eq=False)
class Item:
    """A claimed job: RQ's view of it and ours."""

    rq_job: RqJob
    queue: Queue
    execution: Execution
    active: ActiveJob


@dataclass(frozen=True, eq=False)
class Done:
    """A writer thread has finished with a job; `settle` is what remains to be told to Redis."""

    active: ActiveJob
    settle: Callable[[Item], None]


class EngineWorker(RqBase):
    """Serves the queues of all its models until it is told to stop.

    Args:
        client: of Redis.
        runners: warm models by name.
        refused: folders that could not be loaded, and why.
        store: where results go.
        metrics: where to count.
        drain_seconds: see `WorkerSettings`.
        result_ttl: seconds that pictures are kept.
    """

    def __init__(
        self,
        client: redis.Redis,
        runners: Mapping[str, Runner],
        refused: Mapping[str, str],
        store: ResultStore,
        metrics: WorkerMetrics,
        *,
        drain_seconds: float,
        result_ttl: int,
    ) -> None:
        names = [keys.queue_name(model, urgency) for urgency in URGENCIES for model in sorted(runners)]
        super().__init__(client, names, name=f"difuso-{uuid.uuid4().hex[:12]}")
        self._runners = dict(runners)
        self._refused = dict(refused)
        self._store = store
        self._metrics = metrics
        self._drain_seconds = drain_seconds
        self._result_ttl = result_ttl
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._engine = StepEngine(runners, self._inbox.put)
        self._thread = Thread(target=self._engine.run, name="engine", daemon=True)
        self._writers = ThreadPoolExecutor(2, thread_name_prefix="writer")
        self._items: dict[ActiveJob, Item] = {}
        self._stop_at: float | None = None
        self._due: dict[str, float] = {}

    def request_stop(self, signum: int = 0, frame: object = None) -> None:
        """Drains: claims nothing more; a second call hands everything back at once. Safe inside a signal handler."""
        drain = self._drain_seconds if self._stop_at is None else 0.0
        self._stop_at = time.monotonic() + drain
        self.give_up_at = self._stop_at + 5

    def run(self) -> None:
        """The worker's life.

        Raises:
            EngineStalled: if the engine hangs or died; the jobs are picked up by the next worker.
            GaveUp: if Redis stayed away while this worker was to stop.
        """
        self.insist(self.register)
        self._thread.start()
        while self._stop_at is None or self._items:
            self._watch_engine()
            if self._is_due("beat", HEARTBEAT_SECONDS):
                self.insist(self._beat)
            if self._is_due("progress", PROGRESS_SECONDS) and self._items:
                self._report_progress()
            if self._stop_at is None:
                self._claim_all()
            else:
                self._release_late()
            self._read_inbox()
        self._engine.stop()
        self.insist(self._leave)
        self._writers.shutdown()

    def _leave(self) -> None:
        withdraw_report(self.connection, self.name)
        self.teardown()

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True

    def _watch_engine(self) -> None:
        if self._engine.fatal is not None:
            raise EngineStalled("the engine stopped") from self._engine.fatal
        if self._items and time.monotonic() - self._engine.last_step > STALL_SECONDS:
            raise EngineStalled(f"no step for {STALL_SECONDS:.0f} s")

    # Claims.

    def _claim_all(self) -> None:
        """Claims what it has room for. Blocks for a moment if there is nothing to do at all."""
        try:
            if not self._items:
                self.connection.blpop([keys.wake(model) for model in self._runners], timeout=IDLE_SECONDS)
            elif not self._is_due("poll", POLL_SECONDS):
                return
            for name in self._look():
                while self._has_room(name) and self._claim(self._queues_by_name[name]):
                    pass
        except redis.RedisError:
            # Nothing is half done: a job is either still queued, or popped and found again by `recover`.
            self._trouble_at = time.monotonic()
            log.warning("cannot claim while Redis does not answer")
            if not self._items:
                time.sleep(IDLE_SECONDS)

    @property
    def _queues_by_name(self) -> dict[str, Queue]:
        return {queue.name: queue for queue in self.queues}

    def _look(self) -> list[str]:
        """Queues that hold jobs, most urgent first; on the way, which jobs in flight are to be cancelled."""
        items = list(self._items.values())
        with self.connection.pipeline(transaction=False) as pipe:
            for waiting in self.queues:
                pipe.llen(waiting.key)
            for item in items:
                pipe.exists(keys.cancel(item.active.job.id))
            answers = pipe.execute()
        for item, cancelled in zip(items, answers[len(self.queues) :], strict=True):
            item.active.cancel = item.active.cancel or bool(cancelled)
        return [waiting.name for waiting, length in zip(self.queues, answers, strict=False) if length]

    def _has_room(self, queue_name: str) -> bool:
        """A job is claimed if it would get a slot: fewer jobs of its model and urgency or above than slots."""
        _, model, urgency = _parse(queue_name)
        rivals = sum(a.job.model == model and a.job.urgency <= urgency for a in self._items)
        return rivals < self._runners[model].slots

    def _claim(self, waiting: Queue) -> bool:
        rq_job = self.pop(waiting)
        if rq_job is None:
            return False
        execution = self.insist(lambda: self.start(rq_job, waiting))
        try:
            job = self._decode(rq_job)
            active = activate(job, self._runners[job.model], snapshot=self._snapshot(job))
        except (JobUnreadable, PlanError, ValueError) as error:
            log.warning("job %s is not supported: %s", rq_job.id, error)
            self.insist(lambda: self._fail(rq_job, waiting, execution, error, FailureCode.UNSUPPORTED))
            return True
        active.cancel = bool(self.insist(lambda: self.connection.exists(keys.cancel(job.id))))
        self._items[active] = Item(rq_job, waiting, execution, active)
        self._metrics.claimed(active)
        self._engine.submit(active)
        self._report_progress(active)
        return True

    @staticmethod
    def _decode(rq_job: RqJob) -> Job:
        """The job as our contract has it. The stored function name is compared, never imported."""
        if rq_job.func_name != TASK:
            raise JobUnreadable("the queue holds something that is no job of difuso")
        return Job.decode(rq_job.kwargs.get("job"))

    def _snapshot(self, job: Job) -> bytes | None:
        try:
            return self._store.snapshot(job.id)
        except StoreUnavailable:
            log.warning("no snapshot of job %s: the store does not answer", job.id)
            return None

    # What the engine and the writers say.

    def _read_inbox(self) -> None:
        """Handles what happened; a busy worker waits for it a little."""
        try:
            event = self._inbox.get(timeout=POLL_SECONDS if self._items else 0.001)
        except queue.Empty:
            return
        while True:
            self._handle(event)
            try:
                event = self._inbox.get_nowait()
            except queue.Empty:
                return

    def _handle(self, event: Finished | Snapped | Previewed | Done) -> None:
        active = event.active
        if isinstance(event, Done):
            item = self._items[active]
            self.insist(lambda: event.settle(item))
            del self._items[active]
            self._metrics.in_flight(len(self._items))
        elif isinstance(event, Finished) and event.error is not None:
            error = event.error
            self._inbox.put(Done(active, lambda item: self._settle_failure(item, error)))
        elif isinstance(event, Finished):
            self._writers.submit(self._store_result, active)
        elif isinstance(event, Snapped):
            self._writers.submit(self._save_snapshot, event)
        else:
            self._writers.submit(self._publish_preview, event)

    def _store_result(self, active: ActiveJob) -> None:
        """In a writer thread: tries a few times, since the pictures cost more than the wait."""
        checkpoint = self._runners[active.job.model].checkpoint
        attempt = self._items[active].execution.id
        for pause in (0.5, 2.0, 5.0, None):
            try:
                seconds = store_result(self._store, active, checkpoint, attempt)
            except StoreUnavailable as error:
                if pause is None:
                    self._inbox.put(Done(active, lambda item, error=error: self._settle_failure(item, error)))
                    return
                time.sleep(pause)
            except Exception as error:
                log.exception("job %s could not be encoded", active.job.id)
                self._inbox.put(Done(active, lambda item, error=error: self._settle_failure(item, error)))
                return
            else:
                self._inbox.put(Done(active, lambda item: self._settle_success(item, seconds)))
                return

    def _save_snapshot(self, event: Snapped) -> None:
        """In a writer thread. A released job goes back to its queue even if its state could not be saved."""
        active = event.active
        try:
            data = encode_snapshot(event.snapshot, self._runners[active.job.model].checkpoint.sha256)
            self._store.save_snapshot(active.job.id, data)
        except StoreUnavailable:
            log.warning("no snapshot of job %s: the store does not answer", active.job.id)
        if event.released:
            self._inbox.put(Done(active, self._settle_hand_back))

    def _publish_preview(self, event: Previewed) -> None:
        message = preview_message(event.active, event.index, event.x0)
        try:
            self.connection.publish(preview_channel(event.active.job.id), message)
        except redis.RedisError:
            log.debug("a preview was lost")

    # What Redis is told. Each of these may be repeated.

    def _settle_success(self, item: Item, encode_seconds: float) -> None:
        if self.owns(item.rq_job, item.execution):
            self._write_progress(item.active, encode_seconds=encode_seconds)
            result = {"images": item.active.job.params.n}
            self._finalize_success(item.rq_job, item.queue, item.execution, result)
            self._metrics.finished(item.active, "succeeded")
        self._forget(item.active.job)

    def _settle_failure(self, item: Item, error: BaseException) -> None:
        if isinstance(error, Cancelled):
            self._stopped_job_id = item.rq_job.id
            code = None
        else:
            code = _failure_code(error)
        self._fail(item.rq_job, item.queue, item.execution, error, code)
        self._metrics.finished(item.active, "failed" if code else "cancelled")
        self._forget(item.active.job)

    def _fail(
        self, rq_job: RqJob, waiting: Queue, execution: Execution, error: BaseException, code: FailureCode | None
    ) -> None:
        """Ends a job without a result. Trying again would not help, so its retries are void."""
        if not self.owns(rq_job, execution):
            return
        if code is not None:
            progress = Progress(failure=code)
            self.connection.set(keys.progress(rq_job.id), progress.model_dump_json(), ex=2 * self._result_ttl)
        rq_job.retries_left = 0
        self._finalize_failure(rq_job, waiting, execution, (type(error), error, None))
        # RQ only logs a commit that failed; the execution's entry tells whether it went through.
        if self.connection.zscore(rq_job.started_job_registry.key, execution.composite_key) is not None:
            raise redis.ConnectionError("the failure was not written")

    def _settle_hand_back(self, item: Item) -> None:
        self._write_progress(item.active)
        self.hand_back(item.rq_job, item.queue, item.execution)
        self._metrics.retried("drain")
        self.connection.publish(status_channel(item.active.job.id), "{}")

    def _forget(self, job: Job) -> None:
        """After the end of a job: wakes those who wait for it, and drops what only an unfinished job needs."""
        with self.connection.pipeline(transaction=False) as pipe:
            pipe.hdel(keys.backlog(job.model), job.id)
            pipe.publish(status_channel(job.id), "{}")
            pipe.execute()
        self._writers.submit(self._drop_snapshot, job.id)

    def _drop_snapshot(self, job_id: str) -> None:
        try:
            self._store.drop_snapshot(job_id)
        except StoreUnavailable:
            log.debug("the sweeper will find the snapshot of %s", job_id)

    # Progress, heartbeats, drain.

    def _report_progress(self, *only: ActiveJob) -> None:
        """Writes how far the jobs are; news that may be late, so one lost report does not matter."""
        actives = list(only or self._items)
        try:
            with self.connection.pipeline(transaction=False) as pipe:
                for active in actives:
                    self._write_progress(active, pipe)
                    left = active.job.params.image_steps - active.image_steps
                    pipe.hset(keys.backlog(active.job.model), active.job.id, left)
                    pipe.publish(status_channel(active.job.id), "{}")
                pipe.pubsub_numsub(*[preview_channel(active.job.id) for active in actives])
                watchers = pipe.execute()[-1]
        except redis.RedisError:
            self._trouble_at = time.monotonic()
            return
        for active, (_, count) in zip(actives, watchers, strict=True):
            active.preview = bool(count)

    def _write_progress(self, active: ActiveJob, pipe: Any = None, encode_seconds: float = 0.0) -> None:
        progress = Progress(
            image_steps=active.image_steps,
            timesteps=active.trajectories[0].plan.timesteps,
            denoise_seconds=active.denoise_seconds,
            encode_seconds=encode_seconds,
            resumed_at=active.resumed_at,
        )
        key, value = keys.progress(active.job.id), progress.model_dump_json()
        (self.connection if pipe is None else pipe).set(key, value, ex=2 * self._result_ttl)

    def _beat(self) -> None:
        self.beat([(item.rq_job, item.execution) for item in self._items.values()])
        models = {
            name: ModelReport(ready=True, sha256=runner.checkpoint.sha256, rate=runner.rate)
            for name, runner in self._runners.items()
        } | {name: ModelReport(ready=False, reason=reason) for name, reason in self._refused.items()}
        slots = sum(runner.slots for runner in self._runners.values())
        publish_report(self.connection, WorkerReport(name=self.name, at=time.time(), slots=slots, models=models))
        self.recover()
        self._tidy_backlog()
        prune_reports(self.connection)
        if self._is_due("sweep", SWEEP_SECONDS):
            self._writers.submit(self._sweep)

    def _tidy_backlog(self) -> None:
        """Takes jobs out of the backlog that ended without their worker's doing."""
        for model in self._runners:
            ids = [job_id.decode() for job_id in self.connection.hkeys(keys.backlog(model))]
            if not ids:
                continue
            with self.connection.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hget(RqJob.key_for(job_id), "status")
                states = pipe.execute()
            over = [job_id for job_id, state in zip(ids, states, strict=True) if state not in (b"queued", b"started")]
            if over:
                self.connection.hdel(keys.backlog(model), *over)

    def _sweep(self) -> None:
        try:
            self._store.sweep(self._result_ttl)
        except StoreUnavailable:
            log.warning("cannot sweep: the store does not answer")

    def _release_late(self) -> None:
        """While draining: hands on the jobs that cannot end in time, and at the deadline all the others."""
        assert self._stop_at is not None
        left = self._stop_at - time.monotonic()
        for active in self._items:
            needed = (active.job.params.image_steps - active.image_steps) / self._runners[active.job.model].rate
            active.release = active.release or needed > left


def _parse(queue_name: str) -> tuple[str, str, int]:
    """The reverse of `keys.queue_name`; a model's name may hold dots."""
    prefix, rest = queue_name.split(".", 1)
    model, urgency = rest.rsplit(".", 1)
    return prefix, model, int(urgency)


def _failure_code(error: BaseException) -> FailureCode:
    for kind, code in (
        (DeadlineExceeded, FailureCode.TIMEOUT),
        (NonFiniteSample, FailureCode.NONFINITE),
        (StoreUnavailable, FailureCode.STORAGE),
    ):
        if isinstance(error, kind):
            return code
    log.error("a job failed", exc_info=error)
    return FailureCode.INTERNAL


__all__ = ["EngineStalled", "EngineWorker", "GaveUp", "WorkerStatus"]
