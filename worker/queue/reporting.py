"""Reports to front ends: the progress of jobs, the worker's models, and the backlog. A report may be late or lost."""

import json
import time
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

import redis
from rq.job import Job as RqJob

from difuso.jobs.contract import FailureCode, JobState, Progress
from difuso.jobs.kinds import KINDS
from difuso.jobs.redis import keys
from difuso.jobs.redis.events import Ending, preview_channel, status_channel
from difuso.jobs.redis.index import enter
from difuso.jobs.redis.queue import wake
from difuso.jobs.redis.queues import known_queues
from difuso.jobs.redis.workers import ModelReport, WorkerReport, prune_reports, publish_report
from difuso.jobs.understanding import understood_here
from difuso.model.folders.files import model_of

from ..engine.active import ActiveJob
from ..engine.fairness import forecast
from ..engine.held_jobs import RunningJob
from ..engine.models import Models
from ..stepping.runner import Runner

MAX_REFUSED = 100  # models in a report, of a folder with many others


class Reporter:
    """Writes a worker's reports to Redis. Progress is kept twice as long as images, like the job."""

    def __init__(self, client: redis.Redis, models: Models, *, result_ttl: int) -> None:
        self.models = models
        self._client = client
        self._result_ttl = result_ttl
        self._ttl = 2 * result_ttl
        self._over: set[bytes] = set()  # jobs that were over when the backlog was last tidied

    def started(self, actives: Collection[ActiveJob], *, among: Collection[ActiveJob]) -> None:
        """Publishes the timesteps and the progress of jobs that start `among` others; marks the cancelled ones."""
        with self._client.pipeline(transaction=False) as pipe:
            for active in actives:
                timesteps = json.dumps(active.start.plan.timesteps)
                pipe.set(keys.timesteps(active.job.id), timesteps, ex=active.job.timeout + self._ttl)
                pipe.exists(keys.cancel(active.job.id))
            for active in actives:  # some may have waited longer than the index of their owner is kept
                enter(pipe, active.job, result_ttl=self._result_ttl)
            self._add_progress(pipe, actives, among)
            answers = pipe.execute()
        for active, found in zip(actives, answers[1::2], strict=False):
            active.cancel = bool(found)
        _note_watchers(actives, answers[-1])

    def progress(self, actives: Collection[ActiveJob]) -> None:
        """Publishes the progress of all jobs in flight, and requests a preview of each that somebody watches."""
        with self._client.pipeline(transaction=False) as pipe:
            self._add_progress(pipe, actives, actives)
            _note_watchers(actives, pipe.execute()[-1])

    def _add_progress(self, pipe: Any, actives: Collection[ActiveJob], among: Collection[ActiveJob]) -> None:
        """Adds the progress of jobs to a pipeline; its last answer is for `_note_watchers`."""
        seconds = forecast(among)
        for active in actives:
            progress = self.progress_of(active, eta_seconds=seconds[active])
            pipe.set(keys.progress(active.job.id), progress.model_dump_json(), ex=self._ttl)
            pipe.hset(keys.backlog(active.job.ref), active.job.id, active.left)
            pipe.publish(status_channel(active.job.id), "{}")
        pipe.pubsub_numsub(*[preview_channel(active.job.id) for active in actives])

    def progress_of(self, active: ActiveJob, **facts: Any) -> Progress:
        """Returns the progress of a job, with further facts."""
        return Progress(
            image_steps=active.image_steps,
            denoise_seconds=active.denoise_seconds,
            resumed_at=active.resumed_at,
            **facts,
        )

    def not_started(self, job_id: str, code: FailureCode, reason: str | None = None) -> None:
        """Writes why a job that never took a step is about to fail; `reason` is for its client."""
        progress = Progress(failure=code, reason=reason)
        self._client.set(keys.progress(job_id), progress.model_dump_json(), ex=self._ttl)

    def changed(self, job_id: str) -> None:
        """Wakes the clients that wait for a job, so that they read its status."""
        self._client.publish(status_channel(job_id), "{}")

    def requeued(self, job_id: str, ref: str) -> None:
        """Wakes the clients that wait for a job that went back to its queue, and an idle worker."""
        self.changed(job_id)
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
        coming = [ModelReport(name=model, ready=False) for model in islice(self.models.coming, MAX_REFUSED)]
        slots = sum(runner.slots for runner in runners.values())
        models = (*held, *refused, *coming)
        known = understood_here(KINDS)
        report = WorkerReport(name=name, at=time.time(), slots=slots, understands=known, models=models)
        publish_report(self._client, report)
        prune_reports(self._client)

    def _held(self, ref: str, runner: Runner) -> ModelReport:
        return ModelReport(
            name=runner.checkpoint.name,
            version=runner.checkpoint.version,
            newest=ref == self.models.newest(runner.checkpoint.name),
            ready=True,
            rate=runner.rate,
            step_seconds=runner.step_seconds,
            precision=runner.precision,
        )

    def leave(self, name: str) -> None:
        """Deletes the report of a worker that ends."""
        self._client.hdel(keys.WORKERS, name)

    def tidy_backlog(self) -> None:
        """Removes jobs that ended without their worker from the backlog, once it has found them ended twice.

        Once is not enough: a job that is just being submitted is in the backlog before it has a record.
        """
        seen, self._over = self._over, set()
        for ref in {name.ref for name in known_queues(self._client)}:
            ids: list[Any] = self._client.hkeys(keys.backlog(ref))
            with self._client.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hget(RqJob.key_for("").encode() + job_id, "status")
                states = pipe.execute()
            over = {job_id for job_id, state in zip(ids, states, strict=True) if state not in (b"queued", b"started")}
            if over & seen:
                self._client.hdel(keys.backlog(ref), *(over & seen))
            self._over |= over


def _note_watchers(actives: Collection[ActiveJob], subscriptions: Sequence[tuple[bytes, int]]) -> None:
    """Requests a preview of each job that somebody watches."""
    for active, (_, count) in zip(actives, subscriptions, strict=True):
        active.preview = bool(count)
