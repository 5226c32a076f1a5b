"""The metrics of a worker. Durations are in seconds, and labels come only from bounded sets."""

import time
from functools import partial
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from difuso.jobs.kinds import KINDS
from difuso.jobs.mirror import Mirror
from difuso.jobs.telemetry import ADDRESS_OK, add_store_metrics, add_versions

from .engine.active import ActiveJob
from .engine.held_jobs import RunningJob
from .stepping.runner import Runner

JOB_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
OUTCOMES = ("succeeded", "failed", "cancelled")


class WorkerMetrics:
    """Counters and histograms of one worker process, which has made `image_steps` so far, of all models."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        add_versions(registry)
        self.observe_store = add_store_metrics(registry)
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._finished = counter("difuso_jobs_finished_total", "Jobs that ended here", ["kind", "model", "outcome"])
        self._retried = counter("difuso_jobs_retried_total", "Jobs that left here unfinished", ["reason"])
        self._wait = histogram("difuso_queue_wait_seconds", "From acceptance to claim", buckets=JOB_BUCKETS)
        self._end_to_end = histogram(
            "difuso_end_to_end_seconds", "From acceptance to stored result", buckets=JOB_BUCKETS
        )
        self._duration = histogram(
            "difuso_job_duration_seconds",
            "From claim to stored result",
            ["kind", "model", "sampler"],
            buckets=JOB_BUCKETS,
        )
        self._step = histogram(
            "difuso_denoise_step_seconds", "One network call", ["model", "bucket"], buckets=STEP_BUCKETS
        )
        self._occupancy = histogram(
            "difuso_batch_occupancy",
            "Share of a batch that held images",
            buckets=(0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0),
        )
        self._image_steps = counter("difuso_image_steps_total", "Denoising steps times images", ["model"])
        self._in_flight = gauge("difuso_jobs_in_flight", "Jobs claimed and not yet settled")
        self._main_busy = gauge("difuso_worker_main_busy_ratio", "Share of its time that the main thread computes")
        self._main_seen = time.monotonic(), time.thread_time()
        self.image_steps = 0
        for reason in ("drain", "lost"):
            self._retried.labels(reason)

    def serve(self, port: int) -> None:
        """Serves /metrics on this port."""
        start_http_server(port, registry=self._registry)

    def watch_address(self, mirror: Mirror) -> None:
        """Shows whether the models of an address are here."""
        gauge = Gauge("difuso_models_address_ok", ADDRESS_OK, registry=self._registry)
        gauge.set_function(lambda: mirror.trouble is None)

    def watch(self, name: str, runner: Runner) -> None:
        """Counts the network calls of a model."""
        image_steps = self._image_steps.labels(name)
        for kind, outcome in product(KINDS, OUTCOMES):
            self._finished.labels(kind, name, outcome)

        def on_step(rows: int, bucket: int, seconds: float) -> None:
            self._step.labels(name, bucket).observe(seconds)
            self._occupancy.observe(rows / bucket)
            image_steps.inc(rows)
            self.image_steps += rows

        runner.on_step = on_step

    def claimed(self, running: RunningJob) -> None:
        """Notes that a job has left the queue; one that another worker has run before did not wait all the time."""
        if running.record.is_fresh:
            self._wait.observe(max(0.0, running.active.claimed_at - running.active.job.accepted_at))

    def in_flight(self, jobs: int) -> None:
        """Sets the number of jobs in flight."""
        self._in_flight.set(jobs)

    def beat(self) -> None:
        """Sets how busy the main thread, which calls this, was since the last call."""
        (before, spent), self._main_seen = self._main_seen, (time.monotonic(), time.thread_time())
        wall, computing = self._main_seen
        self._main_busy.set((computing - spent) / max(wall - before, 1e-3))

    def finished(self, active: ActiveJob, outcome: str) -> None:
        """Counts a job that has ended; `outcome` is one of `OUTCOMES`."""
        job = active.job
        self._finished.labels(job.kind, job.model, outcome).inc()
        if outcome == "succeeded":
            now = time.time()
            self._duration.labels(job.kind, job.model, job.params.sampler).observe(now - active.claimed_at)
            self._end_to_end.observe(max(0.0, now - job.accepted_at))

    def refused(self, kind: str, model: str, outcome: str) -> None:
        """Counts a job that was refused, cancelled or given up here; its kind is `unknown` if it could not be read."""
        self._finished.labels(kind, model, outcome).inc()

    def retried(self, reason: str) -> None:
        """Counts a job that continues elsewhere: `drain` if it was handed over, `lost` if another worker took over."""
        self._retried.labels(reason).inc()
