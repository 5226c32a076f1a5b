"""All metrics of the API process. Labels take values from bounded sets only: never ids, seeds or raw paths."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from redis import RedisError

from difuso.jobs.catalog import Catalog, CatalogFollower
from difuso.jobs.errors import ImageRefused, StoreUnavailable
from difuso.jobs.kinds import KINDS
from difuso.jobs.mirror import Mirror
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.usage import UsageRecords, Used
from difuso.jobs.redis.webhooks import Webhooks
from difuso.jobs.redis.workers import WorkerReport
from difuso.jobs.store.result_store import ResultStore
from difuso.jobs.telemetry import ADDRESS_OK, add_store_metrics, add_versions
from difuso.jobs.trainings.records import Trainings
from difuso.model.folders.files import model_of

from ..errors import UploadRefused
from ..store_access import StoreProbe
from .api_keys import KeyRing
from .problems import PROBLEMS

# Long ones too, for a POST may wait for its images.
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200)

WEBHOOK_OUTCOMES = ("delivered", "retried", "gone", "given_up")


class Metrics:
    """The metrics that front ends count; `route` is the template of a path, `reason` a problem's slug.

    Several front ends of one port count in files of one folder, so that each shows the sums, also of those that died.
    prometheus_client does so where PROMETHEUS_MULTIPROC_DIR names the folder. Gauges are not kept in these files, but
    made at each scrape.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.of_keys = CollectorRegistry()  # what each key has used, which the holders of others must not see
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        counted = registry if folder is None else None
        if folder is None:
            ProcessCollector(registry=registry)
        else:
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
            registry.register(ProcessesCollector(Path(folder)))
        add_versions(registry)
        self.observe_store = add_store_metrics(counted)
        counter = partial(PrometheusCounter, registry=counted)
        histogram = partial(Histogram, registry=counted)
        self.http = histogram(
            "difuso_http_request_duration_seconds",
            "Time from the head of the request to the last byte of the answer",
            ["method", "route", "status"],
            buckets=HTTP_BUCKETS,
        )
        self.accepted = counter("difuso_jobs_accepted", "Jobs put in the queue", ["kind", "model"])
        self.redis_errors = counter("difuso_redis_errors", "Operations that failed in Redis, by route or task", ["op"])
        self.uploads_rejected = counter(
            "difuso_uploads_rejected", "Requests whose images were refused, by problem", ["reason"]
        )
        self.webhooks = counter("difuso_webhooks", "Calls of webhooks, by what came of them", ["outcome"])
        for outcome in WEBHOOK_OUTCOMES:
            self.webhooks.labels(outcome)
        for op in ("metrics", "watch", "webhooks"):
            self.redis_errors.labels(op)
        for error, problem in PROBLEMS.items():
            if issubclass(error, UploadRefused | ImageRefused):
                self.uploads_rejected.labels(problem.slug)

    def know_models(self, catalog: Catalog) -> None:
        for model in catalog.models.values():
            for kind in KINDS:
                self.accepted.labels(kind, model.name)


@dataclass(frozen=True)
class UsageCollector(Collector):
    """What each key of the file has used, or all requests without keys: the sums in Redis, equal at each front end."""

    usage: UsageRecords
    keys: KeyRing | None
    metrics: Metrics

    def collect(self) -> Iterator[Metric]:
        counts: dict[str, tuple[str, Callable[[Used], float]]] = {
            "jobs": ("Jobs that have ended", lambda used: used.jobs),
            "images": ("Images that were delivered", lambda used: used.images),
            "image_steps": ("Image-steps that were made", lambda used: used.image_steps),
            "device_seconds": ("Seconds of devices", lambda used: used.device_us / 1e6),
            "stored_bytes": ("Bytes of results", lambda used: used.stored_bytes),
        }
        try:
            totals = self.usage.totals()
        except RedisError:
            self.metrics.redis_errors.labels("metrics").inc()
            return
        names = [None] if self.keys is None else sorted({key.name for key in self.keys.keys})
        for fact, (text, amount) in counts.items():
            metric = CounterMetricFamily(f"difuso_usage_{fact}", text, labels=["key"])
            for name in names:
                metric.add_metric([name or ""], amount(totals.get(name, Used(jobs=0))))
            yield metric


@dataclass(frozen=True)
class ProcessesCollector(Collector):
    """The metrics of each process that counts in a folder, by its pid."""

    folder: Path

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        for file in self.folder.glob("counter_*.db"):
            pid = file.stem.partition("_")[2]
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():  # none if it is dead
                same = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    same.add_sample(sample.name, {"pid": pid}, sample.value)
        yield from found.values()


@dataclass(frozen=True)
class StackCollector(Collector):
    """The metrics of keys, models, queue, workers, trainings, Redis and the store, which are read at each scrape.

    While Redis does not answer, its metrics are absent, so that no old value looks current.
    """

    queue: JobQueue
    webhooks: Webhooks
    store: ResultStore
    probe: StoreProbe
    follower: CatalogFollower
    mirror: Mirror | None
    keys: KeyRing | None
    trainings: Trainings | None
    metrics: Metrics

    def collect(self) -> Iterator[Metric]:
        try:
            reports = self.queue.workers()
            yield from [*self._of_queue(reports), *self._of_workers(reports), *self._of_redis(), *self._of_trainings()]
        except RedisError:
            self.metrics.redis_errors.labels("metrics").inc()
        if self.mirror is not None:
            yield GaugeMetricFamily("difuso_models_address_ok", ADDRESS_OK, value=self.mirror.trouble is None)
        if self.keys is not None:
            yield GaugeMetricFamily(
                "difuso_api_keys_ok",
                "1 if the API keys in use are those of the file; 0 while the file cannot be read or is invalid",
                value=self.keys.is_current,
            )
        yield from self._of_store()

    @property
    def _models(self) -> list[str]:
        return list(self.follower.catalog.models)

    def _of_queue(self, reports: Sequence[WorkerReport]) -> Iterator[Metric]:
        backlog = GaugeMetricFamily(
            "difuso_backlog_image_steps", "Image-steps left to do of all unfinished jobs", labels=["model"]
        )
        seconds = GaugeMetricFamily(
            "difuso_backlog_seconds",
            "Time that the live workers need for the backlog; absent while it waits and none has measured its rate",
            labels=["model"],
        )
        depths = {name: counts for name, counts in self.queue.depths().items() if name.model in self._models}
        rates = defaultdict[str, float](float)
        for each in (each for worker in reports for each in worker.models if each.held):
            rates[each.name] += each.rate or 0.0
        image_steps = Counter[str](dict.fromkeys(self._models, 0))
        for ref in {name.ref for name in depths}:
            image_steps[model_of(ref)] += self.queue.backlog(ref).image_steps
        for model, left in image_steps.items():
            backlog.add_metric([model], left)
            if rates[model] or not left:
                seconds.add_metric([model], left / (rates[model] or 1))
        asleep = GaugeMetricFamily(
            "difuso_model_asleep", "1 if a model of DIFUSO_POOLS has neither workers nor jobs", labels=["model"]
        )
        for model in self.queue.asleep(reports).keys() & image_steps.keys():
            asleep.add_metric([model], not image_steps[model])
        yield from (backlog, seconds, asleep)
        yield GaugeMetricFamily(
            "difuso_queue_oldest_age_seconds",
            "Time since the oldest waiting job was queued",
            value=self.queue.oldest_age(),
        )
        jobs = GaugeMetricFamily("difuso_rq_jobs", "RQ jobs by state", labels=["queue", "status"])
        totals: Counter[tuple[str, str]] = Counter()
        for name, counts in depths.items():  # a series for each version would be one too many
            totals.update({(f"difuso.{name.model}.{name.urgency}", state): count for state, count in counts.items()})
        for labels, count in totals.items():
            jobs.add_metric(labels, count)
        yield jobs
        yield GaugeMetricFamily(
            "difuso_webhooks_waiting",
            "Webhooks that are due, and that no front end has called for half a minute",
            value=self.webhooks.waiting(),
        )

    def _of_workers(self, reports: Sequence[WorkerReport]) -> Iterator[Metric]:
        serving = GaugeMetricFamily("difuso_workers", "Live workers that serve a model", labels=["model"])
        versions = GaugeMetricFamily(
            "difuso_model_versions", "Versions of a model that live workers hold as their newest", labels=["model"]
        )
        for model in self._models:
            about = [[each for each in worker.models if each.name == model] for worker in reports]
            serving.add_metric([model], sum(any(each.held for each in of_worker) for of_worker in about))
            versions.add_metric([model], len({each.version for found in about for each in found if each.newest}))
        yield from (serving, versions)

    def _of_trainings(self) -> Iterator[Metric]:
        if self.trainings is not None:
            metric = GaugeMetricFamily(
                "difuso_trainings",
                "Trainings by state; those that are queued, running or deleting need a trainer",
                labels=["state"],
            )
            for state, count in self.trainings.counts().items():
                metric.add_metric([state], count)
            yield metric

    def _of_redis(self) -> Iterator[Metric]:
        health = self.queue.health()
        yield GaugeMetricFamily("difuso_redis_memory_used_bytes", "Memory that Redis uses", value=health.memory_used)
        yield GaugeMetricFamily(
            "difuso_redis_memory_max_bytes", "Memory that Redis may use; 0 without a limit", value=health.memory_max
        )
        yield GaugeMetricFamily(
            "difuso_redis_takes_writes",
            "0 if Redis refuses every write: its memory or disk is full, or it is a replica",
            value=health.takes_writes,
        )
        yield GaugeMetricFamily(
            "difuso_redis_append_only_ok",
            "1 if Redis appends every write to its file, and the last writes and rewrites succeeded",
            value=health.append_only_ok,
        )

    def _of_store(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "difuso_store_ok",
            "1 if a file can be written to the result store and deleted",
            value=self.probe.takes_files(),
        )
        try:
            space = self.store.space()
        except StoreUnavailable:
            return
        if space is not None:
            free, size = space
            yield GaugeMetricFamily("difuso_store_free_bytes", "Free space on the result store's disk", value=free)
            yield GaugeMetricFamily("difuso_store_size_bytes", "Size of the result store's disk", value=size)
