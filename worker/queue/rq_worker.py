"""The engine worker: many RQ jobs in flight in one process, one batch on the device.

    main thread      all of Redis: claims, heartbeats, progress, cancel, results, hand-over
    engine thread    steps the batch (`worker.engine.engine`); knows neither Redis nor files
    reader threads   read uploads and snapshots of claimed jobs from the result store (`worker.queue.reader_threads`)
    writer threads   encode images and write to the result store (`worker.queue.writers`)

The other threads send events to one inbox of the main thread. A result is stored first, and the first attempt that
stores one wins. Then the fence is checked, then RQ is informed. Each step can be repeated, as often as Redis goes away.
"""

from __future__ import annotations

import logging
import os
import queue
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

import redis

from difuso.jobs.redis.holds import read_holds
from difuso.jobs.redis.index import enter_again
from difuso.jobs.redis.keys import QueueName
from difuso.jobs.store.result_store import ResultStore
from difuso.model.memory import give_back

from ..device.cores import core_of
from ..engine.active import ActiveJob, EngineEvent, Finished, Previewed, Snapped
from ..engine.engine import EngineStalled, StepEngine
from ..engine.fairness import forecast
from ..engine.held_jobs import Claim, RunningJob
from ..engine.models import ModelFollower
from ..engine.served_models import Models
from ..metrics import WorkerMetrics
from ..settings import GIVE_UP_SECONDS, WorkerSettings
from . import watchdog
from .claims import Claims
from .demand import Demand
from .outcomes import Outcomes
from .pacing import Pacer
from .reader_threads import OF_THE_MOMENT, JobRead, JobReaders
from .recovery import HEARTBEAT_SECONDS, RECOVERY_SECONDS
from .reporting import Reporter
from .rq_base import GaveUp, RqBase
from .stranded import Stranded, Superseded
from .writers import Released, Stored, Writers

if TYPE_CHECKING:
    from ..spans import JobSpans

log = logging.getLogger(__name__)

POLL_SECONDS = 0.02  # how often a busy worker looks for new and cancelled jobs
IDLE_SECONDS = 1  # how long an idle worker blocks
PROGRESS_SECONDS = 1.0
TRIM_SECONDS = 60.0
SWEEP_SECONDS = 600.0
SWEEP_MARGIN = 60.0  # images are a little older than the end of their job, from which their lifetime is counted


class EngineWorker(RqBase):
    """Serves the queues of all its models until it has to stop.

    Args:
        follower: loads the models, those at the start and newer ones.
        spans: writes traces of jobs; None for none.
    """

    def __init__(
        self,
        client: redis.Redis,
        follower: ModelFollower,
        store: ResultStore,
        metrics: WorkerMetrics,
        settings: WorkerSettings,
        spans: JobSpans | None = None,
    ) -> None:
        self._models = models = follower.models
        name = f"difuso-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._claims = Claims(client, models.runners, name)
        super().__init__(client, self._claims.queues, name)
        self._follower = follower
        self._metrics = metrics
        self._settings = settings
        # Up to Python 3.12 a SimpleQueue waits for ever if its timeout passes while a signal is handled: at SIGTERM.
        self._inbox: queue.Queue[Sequence[JobRead | Finished | Stored | Released]] = queue.Queue()
        self._engine = StepEngine(self._hear_engine, core_of(settings.core_folder))
        self._thread = Thread(target=self._engine.run, name="engine", daemon=True)
        self._writers = Writers(store, client, self._inbox.put, store_wait=settings.store_wait)
        self._reporter = Reporter(client, models, result_ttl=settings.result_ttl, only=settings.models)
        self._outcomes = Outcomes(self, self._reporter, self._writers, metrics, spans)
        self._stranded = Stranded(client, self._reporter, settings)
        self._superseded = Superseded(client)
        self._demand = Demand(client, follower, self._claims, name)
        wait, bind = settings.store_wait, self._stranded.bind_second
        self._readers = JobReaders(self, self._outcomes, store, models, self._inbox.put, bind=bind, store_wait=wait)
        self._running: dict[ActiveJob, RunningJob] = {}
        follower.has_jobs = lambda: bool(self._running)
        self._pacer = Pacer()
        self._stop_at: float | None = None

    def request_stop(self, signum: int = 0, frame: object = None) -> None:
        """Starts to drain: claims nothing more. A second call hands back all jobs at once. Safe in a signal handler."""
        drain = self._settings.drain_seconds if self._stop_at is None else 0.0
        self._stop_at = time.monotonic() + drain
        self.give_up_at = self._stop_at + GIVE_UP_SECONDS

    def run(self) -> None:
        """Serves until the worker has to stop and holds no jobs.

        Raises:
            EngineStalled: if the engine's thread ended by itself; other workers take over the jobs.
            GaveUp: if Redis or the store did not answer in time while this worker was to stop.
        """
        self._thread.start()
        watchdog.watch("main thread", lambda: self.turns, lambda: watchdog.CALL_SECONDS)
        watchdog.watch(
            "engine", lambda: self._engine.last_step, lambda: watchdog.step_patience(self._models.runners.values())
        )
        while self._stop_at is None or self._held or self._claims.is_unanswered:
            self.turns += 1
            self._watch_engine()
            try:
                self._turn()
            except redis.ResponseError:  # data of another program must not end the process
                log.exception("Redis refused a command because of the data that it holds")
                time.sleep(IDLE_SECONDS)
        self._engine.stop()
        self.retry_until_deadline(lambda: self._reporter.leave(self.name))
        self._readers.close()
        self._writers.close()
        self._follower.close()

    def _turn(self) -> None:
        if self._stop_at is None:
            self.retry_until_deadline(lambda: self._demand.look(self._held, self._readers.waiting))
        if self._follower.models is not self._models:
            self._serve(self._follower.models)
        if self._pacer.is_due("beat", HEARTBEAT_SECONDS) or self.heartbeat_due:
            self.retry_until_deadline(self._beat)
        if self._pacer.is_due("recover", RECOVERY_SECONDS):
            self._outcomes.give_up(self.retry_until_deadline(self.recover))
            self._outcomes.give_up(self.retry_until_deadline(lambda: self._stranded.look(self._models)))
            self.retry_until_deadline(lambda: self._claims.make_room(self._claims.open_queues, self._running))
        self._report()
        self._claim_all(self._claims.open_queues if self._stop_at is None else [])
        if self._stop_at is not None:
            self._release_late(self._stop_at)
        self._read_inbox()

    @property
    def _held(self) -> list[Claim]:
        """All jobs that this worker holds."""
        return [*self._running.values(), *self._readers.claims]

    def _watch_engine(self) -> None:
        if self._engine.fatal is not None:
            raise EngineStalled("the engine stopped") from self._engine.fatal
        if time.monotonic() > self.give_up_at:
            raise GaveUp("the result store does not answer, and the time to stop is over")

    def _beat(self) -> None:
        if self._pacer.is_due("sweep", SWEEP_SECONDS):  # first: on a full disk Redis may refuse all that follows
            self._writers.sweep(self._settings.result_ttl + SWEEP_MARGIN)
        lost = self.beat(self._held)  # to others, if this worker was frozen
        for active, running in self._running.items():
            active.cancel = active.cancel or running in lost
        self._readers.drop(lost)
        self._follower.forget(self._superseded.idle(self._models.superseded, self._running))
        self._follower.look()
        self._reporter.worker(self.name)
        self._claims.hold_back(read_holds(self.connection))
        self._metrics.beat()
        self._reporter.tidy_backlog()
        if self._pacer.is_due("trim", TRIM_SECONDS):
            give_back()
        if self._pacer.is_due("tidy", SWEEP_SECONDS):
            self.tidy()

    def _serve(self, models: Models) -> None:
        """Serves these models from now on; jobs in flight keep the runner that they began with."""
        known = self._models.news
        for ref, runner in models.runners.items():
            if runner is not self._models.runners.get(ref):
                self._metrics.watch(runner.checkpoint.name, runner)
        self._models = self._reporter.models = models
        self._claims.serve(models.runners)
        self._readers.serve(models)
        self.queues = self._claims.queues
        if models.news != known:
            self._pacer.put_off("beat", 0)  # so that front ends hear of it at once

    def _report(self) -> None:
        """Reports the progress of all jobs that are not over within a moment."""
        due = self._reporter.due(self._running, regular=self._pacer.is_due("progress", PROGRESS_SECONDS))
        news = [active for active in due if not active.cancel]
        try:
            if news:
                self._reporter.progress(news, among=self._running)
        except redis.RedisError:
            self.note_trouble()

    def _claim_all(self, queues: Sequence[QueueName]) -> None:
        """Claims jobs while there is room. It blocks up to IDLE_SECONDS if the worker holds no jobs.

        While claims are put off, it only looks for jobs that were cancelled.
        """
        if self._held and not self._pacer.is_due("poll", POLL_SECONDS):
            return
        if not self._pacer.is_due("claim", 0.0):
            queues = []
        try:
            crowded = self._pacer.is_due("orphans", RECOVERY_SECONDS)
            if waits := self._claims.is_unanswered:
                queues = self.queues
            elif self._held or not queues or self._demand.is_pressing:
                if not self._held:
                    time.sleep(POLL_SECONDS)
                waits, cancelled = self._claims.look(queues, self._held, crowded=crowded)
                self._cancel(cancelled)
            else:
                waits = self._claims.wait(queues, self._models.loadable, crowded=crowded, seconds=IDLE_SECONDS)
            if waits:
                self._pacer.put_off("poll", POLL_SECONDS)
                for claim in self._claims.take(queues, self._held, crowded=crowded):
                    self._readers.read(claim)
        except redis.RedisError:
            # No job is lost: it is still queued, or the next claim returns it, or `recover` finds it.
            self.note_trouble()
            log.warning("cannot claim while Redis does not answer")
            if not self._held:
                time.sleep(IDLE_SECONDS)

    def _begin(self, read: Sequence[JobRead]) -> None:
        begun = []
        for event in read:
            if (pause := OF_THE_MOMENT.get(type(event.error))) is not None:
                self._pacer.put_off("claim", pause)
            claim, active = event.claim, self._readers.take(event)
            if active is not None:
                active.alone = claim.record.is_suspect
                begun.append(RunningJob(claim.record, claim.execution, active=active))
        ttl = self._settings.result_ttl
        for running in begun:  # all that may fail, before any of them counts as running
            self.retry_until_deadline(partial(self.credit, running.record, running.active.resumed_at))
            self.retry_until_deadline(partial(enter_again, self.connection, running.active.job, result_ttl=ttl))
        for running in begun:
            self._running[running.active] = running
            log.info("job claimed", extra={**running.active.job.trail, "model": running.active.job.model})
            self._metrics.claimed(running)
        if begun:
            self._engine.submit(*(running.active for running in begun))
            self._metrics.in_flight(len(self._running))

    def _cancel(self, claims: Sequence[Claim]) -> None:
        """Ends jobs that were cancelled: at once while they are being read, else at their next step."""
        for claim in claims:
            if isinstance(claim, RunningJob):
                claim.active.cancel = True
            else:
                self._readers.cancel(claim)

    def _release_late(self, stop_at: float) -> None:
        """Releases the jobs that cannot end before `stop_at`, and at that time all others; called while draining."""
        self._readers.hand_back()
        left = stop_at - time.monotonic()
        for active in self._running:
            active.release = active.release or forecast([active])[active] > left

    def _hear_engine(self, event: EngineEvent) -> None:
        """Receives events in the engine's thread. Events for the store go there at once, even while Redis is away."""
        if isinstance(event, Snapped):
            event.active.has_snapshot = True
            event.active.alone = False  # the job has taken steps without killing its worker
            self._writers.snapshot(event)
        elif isinstance(event, Previewed):
            self._writers.preview(event)
        elif event.error is None:
            self._writers.store(event.active)
        else:
            self._inbox.put([event])

    def _read_inbox(self) -> None:
        """Handles the events that have arrived; a worker that holds jobs waits up to POLL_SECONDS for the first."""
        events = list[JobRead | Finished | Stored | Released]()
        with suppress(queue.Empty):
            events += self._inbox.get(timeout=POLL_SECONDS if self._held else 0.001)
            while True:
                events += self._inbox.get_nowait()
        over = {self._running.pop(event.active): event for event in events if not isinstance(event, JobRead)}
        if over:
            self._outcomes.end(over)
            self._metrics.in_flight(len(self._running))
        self._begin([event for event in events if isinstance(event, JobRead)])
