"""The engine worker: many RQ jobs in flight in one process, one batch on the device.

    main thread      all of Redis: claims, heartbeats, progress, cancel, results, hand-over
    engine thread    steps the batch (`worker.engine`); knows no Redis and no files
    writer threads   encode pictures and write to the result store (`worker.writers`)

They meet in one inbox. A result is stored first, by whoever is first; then the fence is checked; then RQ is told. Each
step can be repeated, so Redis may go away at any moment.
"""

from __future__ import annotations

import logging
import queue
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread

import redis
import torch
from rq import Queue
from rq.executions import Execution
from rq.job import Job as RqJob

from jobs import keys
from jobs.contract import URGENCIES, FailureCode
from jobs.store import ResultStore

from .active import ActiveJob, EngineEvent, Finished, Previewed, Snapped
from .allocator import give_back
from .engine import StepEngine
from .failures import failure_code
from .fairness import forecast
from .metrics import WorkerMetrics
from .opening import open_job
from .reporting import Reporter
from .rq_base import HEARTBEAT_SECONDS, GaveUp, RqBase
from .runner import Runner
from .writers import Released, Stored, Writers

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05  # how often a busy worker looks for new jobs and cancelled ones
IDLE_SECONDS = 1  # how long an idle one blocks
PROGRESS_SECONDS = 1.0
STALL_SECONDS = 60.0  # a step that takes longer hangs, on devices where a full batch takes less than 3 s
TRIM_SECONDS = 60.0
SWEEP_SECONDS = 600.0
SWEEP_MARGIN = 60.0  # pictures are a little older than their job's end, from which their time is counted


class EngineStalled(Exception):
    """The engine's thread ended or hangs; the process must be replaced."""


@dataclass(frozen=True, eq=False)
class Item:
    """A claimed job: RQ's view of it and ours."""

    rq_job: RqJob
    queue: Queue
    execution: Execution
    active: ActiveJob


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
        self._feeds = {
            keys.queue_name(model, urgency): (model, urgency) for urgency in URGENCIES for model in sorted(runners)
        }
        super().__init__(client, list(self._feeds), name=f"difuso-{uuid.uuid4().hex[:12]}")
        self._runners = runners
        self._store = store
        self._metrics = metrics
        self._drain_seconds = drain_seconds
        self._result_ttl = result_ttl
        self._inbox: queue.SimpleQueue[Finished | Stored | Released] = queue.SimpleQueue()
        self._engine = StepEngine(runners, self._hear_engine)
        self._stall_seconds = max(STALL_SECONDS, *(20 * runner.slots / runner.rate for runner in runners.values()))
        self._thread = Thread(target=self._engine.run, name="engine", daemon=True)
        self._writers = Writers(runners, store, client, self._inbox.put)
        self._reporter = Reporter(client, runners, refused, result_ttl=result_ttl)
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
            if self._items and self._is_due("progress", PROGRESS_SECONDS):
                self._report(*self._items)
            if self._stop_at is None:
                self._claim_all()
            else:
                self._release_late(self._stop_at)
            self._read_inbox()
        self._engine.stop()
        self.insist(lambda: self._reporter.leave(self.name))
        self.insist(self.teardown)
        self._writers.close()

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True

    def _watch_engine(self) -> None:
        if self._engine.fatal is not None:
            raise EngineStalled("the engine stopped") from self._engine.fatal
        if self._items and time.monotonic() - self._engine.last_step > self._stall_seconds:
            raise EngineStalled(f"no step for {self._stall_seconds:.0f} s")
        if time.monotonic() > self.give_up_at:
            raise GaveUp("the result store does not answer, and the time to stop is over")

    def _beat(self) -> None:
        self.beat([(item.rq_job, item.execution) for item in self._items.values()])
        self._reporter.worker(self.name)
        self.recover()
        self._reporter.tidy_backlog()
        if self._is_due("trim", TRIM_SECONDS):
            give_back()
        if self._is_due("sweep", SWEEP_SECONDS):
            self.tidy()
            self._writers.sweep(self._result_ttl + SWEEP_MARGIN)

    def _report(self, *actives: ActiveJob) -> None:
        try:
            self._reporter.progress(actives, among=self._items)
        except redis.RedisError:
            self.note_trouble()

    # Claims.

    def _claim_all(self) -> None:
        """Claims what there is room for. Blocks for a moment if there is nothing to do at all."""
        if self._items and not self._is_due("poll", POLL_SECONDS):
            return
        try:
            if not self._items:
                self.connection.blpop([keys.wake(model) for model in self._runners], timeout=IDLE_SECONDS)
            if self._has_news():
                for waiting in self.queues:
                    while self._has_room(waiting) and self._claim(waiting):
                        pass
        except redis.RedisError:
            # Nothing is half done: a job is either still queued, or popped and found again by `recover`.
            self.note_trouble()
            log.warning("cannot claim while Redis does not answer")
            if not self._items:
                time.sleep(IDLE_SECONDS)

    def _has_news(self) -> bool:
        """Whether there may be jobs to claim; tells the jobs in flight that are to be cancelled.

        One command as long as there is neither, since a busy worker asks 20 times a second.
        """
        waiting = [queue.key for queue in self.queues if self._has_room(queue)]
        flags = {keys.cancel(active.job.id): active for active in self._items if not active.cancel}
        if not (waiting or flags) or not self.connection.exists(*waiting, *flags):
            return False
        if flags:
            for active, flag in zip(flags.values(), self.connection.mget(*flags), strict=True):
                active.cancel = flag is not None
        return True

    def _has_room(self, waiting: Queue) -> bool:
        """A job is claimed if it would get a slot: fewer jobs of its model, as urgent or more, than slots."""
        model, urgency = self._feeds[waiting.name]
        rivals = sum(active.job.model == model and active.job.urgency <= urgency for active in self._items)
        return rivals < self._runners[model].slots

    def _claim(self, waiting: Queue) -> bool:
        rq_job = self.pop(waiting)
        if rq_job is None:
            return False
        execution = self.insist(lambda: self.start(rq_job, waiting))
        if execution is None:
            return True
        try:
            active = open_job(rq_job, self._runners, self._store, attempt=execution.id)
        except torch.AcceleratorError:
            raise  # the device is lost
        except Exception as error:  # nothing that one job holds may end all the others
            log.warning("job %s cannot be started: %r", rq_job.id, error)
            self._refuse(rq_job, waiting, execution, error)
            return True
        self._items[active] = Item(rq_job, waiting, execution, active)
        self.insist(lambda: self._reporter.claimed(active))
        self._metrics.claimed(active)
        self._engine.submit(active)
        self._report(active)
        return True

    def _refuse(self, rq_job: RqJob, waiting: Queue, execution: Execution, error: Exception) -> None:
        code = failure_code(error) or FailureCode.INTERNAL
        self.insist(lambda: self._reporter.not_started(rq_job.id, code))
        self.insist(lambda: self.fail(rq_job, waiting, execution, error, stopped=False))

    def _release_late(self, stop_at: float) -> None:
        """While draining: hands on the jobs that cannot end in time, and at the deadline all the others."""
        left = stop_at - time.monotonic()
        for active in self._items:
            runner = self._runners[active.job.model]
            active.release = active.release or forecast([active], runner)[active] > left

    # What the engine and the writers say.

    def _hear_engine(self, event: EngineEvent) -> None:
        """In the engine's thread. What only needs the store goes there at once: the main thread may wait for Redis."""
        if isinstance(event, Snapped):
            self._writers.snapshot(event)
        elif isinstance(event, Previewed):
            self._writers.preview(event)
        elif event.error is None:
            self._writers.store(event.active)
        else:
            self._inbox.put(event)

    def _read_inbox(self) -> None:
        """Handles what happened; a busy worker waits for it a little."""
        try:
            event = self._inbox.get(timeout=POLL_SECONDS if self._items else 0.001)
            while True:
                self._handle(event)
                event = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _handle(self, event: Finished | Stored | Released) -> None:
        item = self._items[event.active]
        if isinstance(event, Released):
            self.insist(lambda: self.hand_back(item.rq_job, item.queue, item.execution))
            self.insist(lambda: self._reporter.requeued(item.active.job))
            self._metrics.retried("drain")
            log.info("job %s handed back after %d image-steps", item.active.job.id, item.active.image_steps)
            self._drop(item)
        elif event.error is not None:
            self._settle_failure(item, event.error)
        elif isinstance(event, Stored):
            self._settle_success(item, event.seconds)

    def _settle_success(self, item: Item, encode_seconds: float) -> None:
        tried = False

        def commit() -> bool:
            nonlocal tried
            if not self.owns(item.rq_job, item.execution):
                return tried  # if we tried before, it was the reply that was lost
            tried = True
            self._reporter.write(self.connection, item.active, encode_seconds=encode_seconds)
            result = {"images": item.active.job.answers}
            self._finalize_success(item.rq_job, item.queue, item.execution, result)
            return True

        self._end(item, "succeeded", owned=self.insist(commit))

    def _settle_failure(self, item: Item, error: BaseException) -> None:
        code = failure_code(error)

        def commit() -> bool:
            if code is not None and self.owns(item.rq_job, item.execution):
                self._reporter.write(self.connection, item.active, failure=code)
            return self.fail(item.rq_job, item.queue, item.execution, error, stopped=code is None)

        self._end(item, "cancelled" if code is None else "failed", owned=self.insist(commit))

    def _end(self, item: Item, outcome: str, *, owned: bool) -> None:
        """After the end of a job. One that was given to another worker meanwhile is that one's to end."""
        if owned:
            self.insist(lambda: self._reporter.ended(item.active.job))
            self._writers.forget(item.active.job.id)
            self._metrics.finished(item.active, outcome)
        else:
            log.warning("job %s was given to another worker, or its end was written before", item.active.job.id)
            self._metrics.retried("lost")
        self._drop(item)

    def _drop(self, item: Item) -> None:
        del self._items[item.active]
        self._metrics.in_flight(len(self._items))
