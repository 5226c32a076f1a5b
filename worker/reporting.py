"""Reports to front ends: the progress of jobs, the worker's models, and the backlog. A report may be late or lost."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

import redis

from jobs import keys
from jobs.contract import FailureCode, Job, ModelReport, Progress, WorkerReport
from jobs.events import preview_channel, status_channel
from jobs.queue import wake
from jobs.rq_job import DataJob
from jobs.workers import prune_reports, publish_report, withdraw_report

from .active import ActiveJob
from .fairness import forecast
from .models import Models
from .runner import Runner


class Reporter:
    """Writes a worker's reports to Redis.

    Args:
        client: the connection to Redis.
        models: the models that the worker serves.
        result_ttl: seconds that images are kept; progress is kept twice as long, like the job.
    """

    def __init__(self, client: redis.Redis, models: Models, *, result_ttl: int) -> None:
        self.models = models
        self._client = client
        self._ttl = 2 * result_ttl

    def claimed(self, active: ActiveJob) -> None:
        """Publishes the timesteps of a job that is about to start, and marks it if it was cancelled."""
        timesteps = json.dumps(active.trajectories[0].plan.timesteps)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.set(keys.timesteps(active.job.id), timesteps, ex=active.job.timeout + self._ttl)
            pipe.exists(keys.cancel(active.job.id))
            active.cancel = bool(pipe.execute()[-1])

    def progress(self, actives: Collection[ActiveJob], *, among: Collection[ActiveJob]) -> None:
        """Publishes the progress of jobs, and requests a preview of each job that somebody watches.

        Args:
            actives: the jobs to report.
            among: all jobs in flight; they share the batches, so the forecasts depend on them.
        """
        seconds: dict[ActiveJob, float] = {}
        for runner in {active.runner for active in among}:
            seconds |= forecast([active for active in among if active.runner is runner], runner)
        with self._client.pipeline(transaction=False) as pipe:
            for active in actives:
                self.write(pipe, active, eta_seconds=seconds[active])
                pipe.hset(keys.backlog(active.job.model), active.job.id, active.left)
                pipe.publish(status_channel(active.job.id), "{}")
            pipe.pubsub_numsub(*[preview_channel(active.job.id) for active in actives])
            watchers = pipe.execute()[-1]
        for active, (_, count) in zip(actives, watchers, strict=True):
            active.preview = bool(count)

    def write(
        self,
        client: Any,
        active: ActiveJob,
        *,
        eta_seconds: float | None = None,
        encode_seconds: float = 0.0,
        failure: FailureCode | None = None,
    ) -> None:
        """Writes one job's progress through a client or a pipeline; `failure` says why the job is about to fail."""
        progress = Progress(
            image_steps=active.image_steps,
            eta_seconds=eta_seconds,
            denoise_seconds=active.denoise_seconds,
            encode_seconds=encode_seconds,
            failure=failure,
            resumed_at=active.resumed_at,
        )
        client.set(keys.progress(active.job.id), progress.model_dump_json(), ex=self._ttl)

    def not_started(self, job_id: str, code: FailureCode) -> None:
        """Writes why a job that never took a step is about to fail."""
        progress = Progress(failure=code)
        self._client.set(keys.progress(job_id), progress.model_dump_json(), ex=self._ttl)

    def requeued(self, job: Job) -> None:
        """Wakes the clients that wait for a job that went back to its queue, and an idle worker."""
        self._client.publish(status_channel(job.id), "{}")
        wake(self._client, job.model)

    def ended(self, job: Job) -> None:
        """Takes a job out of the backlog, and wakes the clients that wait for it."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hdel(keys.backlog(job.model), job.id)
            pipe.publish(status_channel(job.id), "{}")
            pipe.execute()

    def worker(self, name: str) -> None:
        """Publishes this worker's models and their speed, and deletes the reports of workers that are silent."""
        runners = self.models.runners
        refused = {model: ModelReport(ready=False, reason=reason) for model, reason in self.models.refused.items()}
        models = refused | {model: _report(runner) for model, runner in runners.items()}
        slots = sum(runner.slots for runner in runners.values())
        publish_report(self._client, WorkerReport(name=name, at=time.time(), slots=slots, models=models))
        prune_reports(self._client)

    def leave(self, name: str) -> None:
        """Deletes this worker's report."""
        withdraw_report(self._client, name)

    def tidy_backlog(self) -> None:
        """Takes jobs out of the backlog that ended without their worker."""
        for model in self.models.runners:
            ids: list[Any] = self._client.hkeys(keys.backlog(model))
            with self._client.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hget(DataJob.key_for("").encode() + job_id, "status")
                states = pipe.execute(raise_on_error=False)  # another program may have written other data there
            over = [job_id for job_id, state in zip(ids, states, strict=True) if state not in (b"queued", b"started")]
            if over:
                self._client.hdel(keys.backlog(model), *over)


def _report(runner: Runner) -> ModelReport:
    return ModelReport(ready=True, sha256=runner.checkpoint.sha256, rate=runner.rate, step_seconds=runner.step_seconds)
