"""Reports to front ends: the progress of jobs, the worker's models, and the backlog. A report may be late or lost."""

import json
import math
import socket
import time
from collections.abc import Collection
from importlib.metadata import version
from itertools import islice
from typing import Any

import redis
from rq.job import Job as RqJob

from difuso.jobs.contract import FailureCode, JobState, Progress
from difuso.jobs.kinds import KINDS
from difuso.jobs.redis import keys
from difuso.jobs.redis.events import Ending, preview_channel, status_channel
from difuso.jobs.redis.holds import let_go
from difuso.jobs.redis.keys import known_queues
from difuso.jobs.redis.pools import note_ready
from difuso.jobs.redis.queued import wake
from difuso.jobs.redis.workers import ModelReport, WorkerReport, prune_reports, publish_report
from difuso.jobs.understanding import understood_here
from difuso.model.folders.files import model_of

from ..engine.active import ActiveJob
from ..engine.fairness import forecast
from ..engine.held_jobs import RunningJob
from ..engine.served_models import Models
from ..stepping.runner import Runner

ANNOUNCE_SECONDS = 0.25  # jobs that are over before are reported at their end only
MAX_REFUSED = 100  # models in a report, of a folder with many others


class Reporter:
    """Writes a worker's reports to Redis. Progress is kept twice as long as images, like the job."""

    def __init__(
        self, client: redis.Redis, models: Models, *, result_ttl: int, only: frozenset[str] = frozenset()
    ) -> None:
        self.models = models
        self._only = only  # the models that the worker serves; empty for all
        self._ready: frozenset[str] = frozenset()  # those that it has reported so
        self._client = client
        self._ttl = 2 * result_ttl

    def due(self, actives: Collection[ActiveJob], *, regular: bool) -> list[ActiveJob]:
        """Returns the jobs to report on: the first report is due after a moment, the others if they are `regular`."""
        now = time.time()  # which may step back
        fresh = {each for each in actives if abs(now - each.claimed_at) < ANNOUNCE_SECONDS}
        return [each for each in actives if (regular if each.is_announced else each not in fresh)]

    def progress(self, actives: Collection[ActiveJob], *, among: Collection[ActiveJob]) -> None:
        """Publishes the progress of jobs `among` others; requests a preview of each that somebody watches.

        The first report of a job has its timesteps, too.
        """
        seconds = forecast(among)
        with self._client.pipeline(transaction=False) as pipe:
            for active in actives:
                job = active.job
                if not active.is_announced:
                    pipe.set(keys.timesteps(job.id), timesteps_of(active), ex=job.timeout + self._ttl)
                progress = self.progress_of(active, eta_seconds=seconds[active])
                pipe.set(keys.progress(job.id), progress.model_dump_json(), ex=self._ttl)
                pipe.hset(keys.backlog(job.ref), job.id, active.left)
                pipe.publish(status_channel(job.id), "{}")
            pipe.pubsub_numsub(*[preview_channel(active.job.id) for active in actives])
            watched = pipe.execute()[-1]
        for active, (_, count) in zip(actives, watched, strict=True):
            active.preview = bool(count)
            active.is_announced = True

    def progress_of(self, active: ActiveJob, **facts: Any) -> Progress:
        """Returns the progress of a job, with further facts."""
        return Progress(
            image_steps=active.image_steps,
            denoise_seconds=active.denoise_seconds,
            resumed_at=active.resumed_at,
            found=active.start.found,
            **facts,
        )

    def not_started(self, job_id: str, code: FailureCode, reason: str | None = None) -> None:
        """Writes why a job that never took a step is about to fail; `reason` is for its client."""
        progress = Progress(failure=code, reason=reason)
        self._client.set(keys.progress(job_id), progress.model_dump_json(), ex=self._ttl)

    def requeued(self, job_id: str, ref: str) -> None:
        """Wakes the clients that wait for a job that went back to its queue, and an idle worker."""
        self._client.publish(status_channel(job_id), "{}")
        wake(self._client, ref)

    def ending(self, running: RunningJob, state: JobState, *, at: float, **facts: Any) -> Ending:
        """Returns what clients hear of the end of a job, with facts for `progress_of`."""
        record = running.record
        assert record.started_at is not None
        return Ending(
            state=state,
            started_at=record.started_at,
            ended_at=at,
            attempts=1 + record.deaths,
            progress=self.progress_of(running.active, **facts),
            versions=running.active.job.versions,
        )

    def worker(self, name: str) -> None:
        """Publishes this worker's models and their speed, and deletes the reports of workers that are silent."""
        runners = self.models.runners
        refused = [
            ModelReport(name=model_of(folder), version=why.version, ready=False, reason=why.reason)
            for folder, why in islice(self.models.refused.items(), MAX_REFUSED)
        ]
        held = [self._held(ref, runner) for ref, runner in runners.items()]
        held += [self._loadable(ref) for ref in self.models.loadable]
        coming = [ModelReport(name=model, ready=False) for model in islice(self.models.coming, MAX_REFUSED)]
        slots = sum(runner.slots for runner in runners.values())
        models = (*held, *refused, *coming)
        known = understood_here(KINDS)
        report = WorkerReport(
            name=name,
            at=time.time(),
            host=socket.gethostname(),
            difuso=version("difuso"),
            slots=slots,
            understands=known,
            only=tuple(sorted(self._only)),
            room=None if self.models.bound == math.inf else math.floor(self.models.room),
            models=models,
        )
        publish_report(self._client, report)
        ready = frozenset(each.name for each in held if each.ready)
        for model in ready - self._ready:
            note_ready(self._client, model)
        self._ready |= ready
        prune_reports(self._client)

    def _held(self, ref: str, runner: Runner) -> ModelReport:
        return ModelReport(
            name=runner.checkpoint.name,
            version=runner.checkpoint.version,
            newest=ref == self.models.newest(runner.checkpoint.name),
            ready=True,
            bytes=self.models.takes(ref),
            rate=runner.rate,
            step_seconds=runner.step_seconds,
            precision=runner.precision,
        )

    def _loadable(self, ref: str) -> ModelReport:
        models, known = self.models, self.models.known.get(ref)
        warm_up = known.warm_up if known else None
        return ModelReport(
            name=model_of(ref),
            version=models.version(ref),
            newest=ref == models.newest(model_of(ref)),
            ready=False,
            load_seconds=models.load_seconds(ref),
            loading=ref == models.loading,
            bytes=models.takes(ref),
            rate=warm_up.rate if warm_up else None,
            step_seconds=warm_up.step_seconds if warm_up else None,
        )

    def leave(self, name: str) -> None:
        """Deletes what is known of a worker that ends."""
        self._client.hdel(keys.WORKERS, name)
        let_go(self._client, "worker", name)

    def tidy_backlog(self) -> None:
        """Removes jobs that ended without their worker from the backlog."""
        for ref in {name.ref for name in known_queues(self._client)}:
            ids: list[Any] = self._client.hkeys(keys.backlog(ref))
            with self._client.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hget(RqJob.key_for("").encode() + job_id, "status")
                states = pipe.execute()
            over = [job_id for job_id, state in zip(ids, states, strict=True) if state not in (b"queued", b"started")]
            if over:
                self._client.hdel(keys.backlog(ref), *over)


def timesteps_of(active: ActiveJob) -> str:
    """Returns the timesteps of a job's network calls as JSON."""
    return json.dumps(active.start.plan.timesteps)
