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
from threading import Thread
from typing import TYPE_CHECKING

import redis
import torch
from rq import Queue
from rq.executions import Execution
from rq.job import Job as RqJob

from jobs import keys
from jobs.errors import StoreUnavailable
from jobs.store import ResultStore

from .active import ActiveJob, EngineEvent, Finished, Previewed, Snapped
from .allocator import give_back
from .claims import Claims, be_wary
from .engine import StepEngine
from .fairness import forecast
from .metrics import WorkerMetrics
from .models import ModelFollower, Models
from .opening import open_job
from .recovery import HEARTBEAT_SECONDS, RECOVERY_SECONDS
from .reporting import Reporter
from .rq_base import GaveUp, RqBase
from .settling import Item, Settler
from .writers import Released, Stored, Writers

if TYPE_CHECKING:
    from .spans import JobSpans

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05  # how often a busy worker looks for new jobs and cancelled ones
IDLE_SECONDS = 1  # how long an idle one blocks
STORE_SECONDS = 2.0  # how long nothing is claimed while the result store does not answer
PROGRESS_SECONDS = 1.0
STALL_SECONDS = 60.0  # a step that takes longer hangs, on devices where a full batch takes less than 3 s
TRIM_SECONDS = 60.0
SWEEP_SECONDS = 600.0
SWEEP_MARGIN = 60.0  # pictures are a little older than their job's end, from which their time is counted


class EngineStalled(Exception):
    """The engine's thread ended or hangs; the process must be replaced."""


class EngineWorker(RqBase):
    """Serves the queues of all its models until it is told to stop.

    Args:
        client: of Redis.
        models: that are served at first.
        follower: looks for what comes after them.
        store: where results go.
        metrics: where to count.
        drain_seconds: see `WorkerSettings`.
        result_ttl: seconds that pictures are kept.
        spans: where to trace jobs, if anywhere.
    """

    def __init__(
        self,
        client: redis.Redis,
        models: Models,
        follower: ModelFollower,
        store: ResultStore,
        metrics: WorkerMetrics,
        *,
        drain_seconds: float,
        result_ttl: int,
        spans: JobSpans | None = None,
    ) -> None:
        self._claims = Claims(client, models.runners)
        super().__init__(client, self._claims.queue_names, name=f"difuso-{uuid.uuid4().hex[:12]}")
        self._models = models
        self._follower = follower
        self._store = store
        self._metrics = metrics
        self._spans = spans
        self._drain_seconds = drain_seconds
        self._result_ttl = result_ttl
        self._inbox: queue.SimpleQueue[Finished | Stored | Released] = queue.SimpleQueue()
        self._engine = StepEngine(self._hear_engine)
        self._thread = Thread(target=self._engine.run, name="engine", daemon=True)
        self._writers = Writers(store, client, self._inbox.put)
        self._reporter = Reporter(client, models, result_ttl=result_ttl)
        self._settler = Settler(self, self._reporter, self._writers, metrics)
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
            try:
                self._turn()
            except redis.ResponseError:  # what somebody else has written must not end the process
                log.exception("Redis holds what it cannot work with")
                time.sleep(IDLE_SECONDS)
        self._engine.stop()
        self.insist(lambda: self._reporter.leave(self.name))
        self.insist(self.teardown)
        self._writers.close()
        self._follower.close()

    def _turn(self) -> None:
        if self._is_due("beat", HEARTBEAT_SECONDS) or self.owes_beat:
            self.insist(self._beat)
        if self._is_due("recover", RECOVERY_SECONDS):
            self._settler.give_up(self.insist(self.recover))
            self.insist(lambda: self._claims.make_room(self.queues, self._items))
        if self._items and self._is_due("progress", PROGRESS_SECONDS):
            self._report(*self._items)
        if self._stop_at is None:
            self._claim_all()
        else:
            self._release_late(self._stop_at)
        self._read_inbox()

    def types(self) -> dict[str, str]:
        return super().types() | self._claims.types

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True

    def _watch_engine(self) -> None:
        if self._engine.fatal is not None:
            raise EngineStalled("the engine stopped") from self._engine.fatal
        patience = max(STALL_SECONDS, *(20 * runner.slots / runner.rate for runner in self._models.runners.values()))
        if self._items and time.monotonic() - self._engine.last_step > patience:
            raise EngineStalled(f"no step for {patience:.0f} s")
        if time.monotonic() > self.give_up_at:
            raise GaveUp("the result store does not answer, and the time to stop is over")

    def _beat(self) -> None:
        self.beat([(item.rq_job, item.execution) for item in self._items.values()])
        self._serve(self._follower.look(self._models))
        self._reporter.worker(self.name)
        self._reporter.tidy_backlog()
        if self._is_due("trim", TRIM_SECONDS):
            give_back()
        if self._is_due("sweep", SWEEP_SECONDS):
            self.tidy()
            self._writers.sweep(self._result_ttl + SWEEP_MARGIN)

    def _serve(self, models: Models) -> None:
        """From now on; jobs in flight keep the runner that they began with."""
        if models is self._models:
            return
        for name, runner in models.runners.items():
            if runner is not self._models.runners.get(name):
                self._metrics.watch(name, runner)
        self._models = self._reporter.models = models
        self._claims.serve(models.runners)
        self.listen_to(self._claims.queue_names)

    def _report(self, *actives: ActiveJob) -> None:
        try:
            self._reporter.progress(actives, among=self._items)
        except redis.RedisError as error:
            self.note_trouble(error)

    # Claims.

    def _claim_all(self) -> None:
        """Claims what there is room for. Blocks for a moment if there is nothing to do at all."""
        if self._items and not self._is_due("poll", POLL_SECONDS):
            return
        try:
            if not self._items:
                self.connection.blpop([keys.wake(model) for model in self._models.runners], timeout=IDLE_SECONDS)
            if not self._claims.has_news(self.queues, self._items):
                return
            if not self._items and any(self._claim(waiting, suspects=True) for waiting in self.queues):
                return
            for waiting in self.queues:
                while self._claims.has_room(waiting, self._items) and self._claim(waiting):
                    pass
        except redis.RedisError as error:
            # Nothing is half done: a job is either still queued, or popped and found again by `recover`.
            self.note_trouble(error)
            log.warning("cannot claim while Redis does not answer")
            if not self._items:
                time.sleep(IDLE_SECONDS)

    def _claim(self, waiting: Queue, *, suspects: bool = False) -> bool:
        rq_job = self._claims.pop(waiting, suspects=suspects)
        if rq_job is None:
            return False
        execution = self.insist(lambda: self.start(rq_job, waiting))
        if execution is None:
            return True
        try:
            active = open_job(rq_job, self._models.runners, self._store, attempt=execution.id)
            self.insist(lambda: self.credit(rq_job, active.resumed_at))
            self.insist(lambda: self._reporter.claimed(active))
        except (torch.AcceleratorError, GaveUp):
            raise  # the device is lost, or Redis away for long
        except StoreUnavailable as error:
            self._put_off(rq_job, waiting, execution, error)
            return False
        except Exception as error:  # nothing that one job holds may end all the others
            log.warning("a job cannot be started", extra={"job_id": rq_job.id, "error": repr(error)})
            self._settler.refuse(rq_job, waiting, execution, error)
            return True
        be_wary(active, rq_job)
        self._items[active] = Item(rq_job, waiting, execution, active)
        log.info("job claimed", extra={**active.job.trail, "model": active.job.model})
        self._metrics.claimed(active)
        self._engine.submit(active)
        self._report(active)
        return True

    def _put_off(self, rq_job: RqJob, waiting: Queue, execution: Execution, error: StoreUnavailable) -> None:
        """A job whose pictures cannot be read now waits at the end of its queue, at most as long as it might run."""
        if time.time() - rq_job.created_at.timestamp() > (rq_job.timeout or 0):
            self._settler.refuse(rq_job, waiting, execution, error)
        else:
            log.warning("a job goes back to its queue: its pictures cannot be read", extra={"job_id": rq_job.id})
            self.insist(lambda: self.hand_back(rq_job, waiting, execution, at_front=False))
        self._due["poll"] = time.monotonic() + STORE_SECONDS

    def _release_late(self, stop_at: float) -> None:
        """While draining: hands on the jobs that cannot end in time, and at the deadline all the others."""
        left = stop_at - time.monotonic()
        for active in self._items:
            active.release = active.release or forecast([active], active.runner)[active] > left

    # What the engine and the writers say.

    def _hear_engine(self, event: EngineEvent) -> None:
        """In the engine's thread. What only needs the store goes there at once: the main thread may wait for Redis."""
        if isinstance(event, Snapped):
            event.active.alone = False  # it has taken steps
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
        item = self._items.pop(event.active)
        if isinstance(event, Released):
            outcome = self._settler.release(item)
        elif isinstance(event, Stored) and event.spent is not None:
            outcome = self._settler.succeed(item, event.spent)
        else:
            assert event.error is not None
            outcome = self._settler.fail(item, event.error)
        if self._spans is not None:
            self._spans.left(item.active, outcome, event.spent if isinstance(event, Stored) else None)
        self._metrics.in_flight(len(self._items))
