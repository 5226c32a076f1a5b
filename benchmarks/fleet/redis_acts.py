"""What the parts of difuso whose cost grows with the fleet cost Redis: their own code, on a Redis full of ghosts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer
from jobs import keys
from jobs.contract import DEFAULT_URGENCY, URGENCIES, Job, ModelReport, WorkerReport
from jobs.params import SamplingParams
from jobs.queue import JobQueue
from jobs.rq_job import DataJob
from jobs.workers import STALE_SECONDS, prune_reports, publish_report
from worker.recovery import Recovery
from worker.reporting import Reporter

from .rates import Cost, RedisCosts

GHOSTS = 1000
REPEATS = 20
MODEL, TTL, FAR = "ghost", 3600, 1e6
OWN = "cmdstat_info"


@dataclass(frozen=True)
class Reading:
    """Redis' counters at a moment: commands by name, microseconds in each, and CPU seconds of the main thread."""

    calls: dict[str, int]
    microseconds: dict[str, int]
    seconds: float

    def since(self, before: Reading) -> Cost:
        """Returns what Redis has done in between."""
        return Cost(sum(self.calls.values()) - sum(before.calls.values()), self.seconds - before.seconds)

    def shares(self, before: Reading) -> dict[str, float]:
        """Returns the share of each command in the time that Redis spent in commands since, the largest first.

        Commands that a script runs count twice, by themselves and in their script.
        """
        spent = {name: value - before.microseconds.get(name, 0) for name, value in self.microseconds.items()}
        total = sum(spent.values()) or 1
        return {name: value / total for name, value in sorted(spent.items(), key=lambda each: -each[1]) if value}


def read(client: redis.Redis) -> Reading:
    """Reads Redis' counters."""
    cpu: Any = client.info("cpu")
    stats: Any = client.info("commandstats")
    found = {name.removeprefix("cmdstat_"): values for name, values in stats.items() if name != OWN}
    return Reading(
        {name: values["calls"] for name, values in found.items()},
        {name: values["usec"] for name, values in found.items()},
        cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"],
    )


@contextmanager
def own_redis() -> Iterator[redis.Redis]:
    """A Redis as `difuso serve` starts it, with nothing else on it."""
    with ChildProcesses() as children, closing(RedisServer(children, children.folder / "redis")) as server:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            yield client


def growing_costs(costs: RedisCosts) -> RedisCosts:
    """Returns the costs with those that grow with the fleet, from measurements with and without ghosts."""
    with own_redis() as client:
        acts = Acts(client)
        acts.add_jobs(1)
        acts.add_workers(1)
        alone = {act: acts.cost(act) for act in ("post", "report", "tidy", "look")}
        acts.add_workers(GHOSTS)
        with_workers = {act: acts.cost(act) for act in ("post", "report")}
        client.delete(keys.WORKERS)
        acts.add_workers(1)
        acts.add_jobs(GHOSTS)
        with_jobs = {act: acts.cost(act) for act in ("post", "tidy", "look")}
    each = 1 / GHOSTS
    return RedisCosts(
        costs.idle,
        costs.busy,
        costs.held,
        costs.job,
        beat_worker=(with_workers["report"] - alone["report"]) * each,
        beat_job=(with_jobs["tidy"] - alone["tidy"]) * each,
        look_job=(with_jobs["look"] - alone["look"]) * each,
        post_worker=(with_workers["post"] - alone["post"]) * each,
        post_job=(with_jobs["post"] - alone["post"]) * each,
    )


class Acts:
    """The acts that read the whole fleet, by the code of front ends and workers."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._queue = JobQueue(client, result_ttl=TTL)
        self._queues = [
            Queue(keys.queue_name(MODEL, each), connection=client, job_class=DataJob, serializer=JSONSerializer)
            for each in URGENCIES
        ]
        models = SimpleNamespace(runners={MODEL: None}, refused={})
        self._reporter = Reporter(client, cast(Any, models), result_ttl=TTL)
        self._recovery = Recovery(client)
        self._acts: dict[str, Callable[[], Any]] = {
            "post": lambda: self._queue.backlog(MODEL),
            "report": lambda: prune_reports(client),
            "tidy": self._reporter.tidy_backlog,
            "look": lambda: self._recovery.run(self._queues),
        }

    def cost(self, act: str) -> Cost:
        """Returns what one such act costs, the mean of some."""
        self._acts[act]()
        before = read(self._client)
        for _ in range(REPEATS):
            self._acts[act]()
        return read(self._client).since(before) * (1 / REPEATS)

    def add_workers(self, count: int) -> None:
        """Adds reports of workers that live."""
        report = ModelReport(ready=True, sha256="0" * 64, rate=123.456789, step_seconds=0.0123456789)
        for _ in range(count):
            name = f"difuso-{uuid.uuid4().hex[:12]}"
            at = time.time() + STALE_SECONDS  # from further ahead it would not count
            publish_report(self._client, WorkerReport(name=name, at=at, slots=16, models={MODEL: report}))

    def add_jobs(self, count: int) -> None:
        """Adds jobs that run."""
        params = SamplingParams(n=4, steps=100, sampler="ddim", spacing="leading", eta=0, seed=0)
        queue = self._queues[DEFAULT_URGENCY]
        for _ in range(count):
            job = Job(id=str(uuid.uuid4()), model=MODEL, params=params, accepted_at=time.time(), timeout=1000)
            self._queue.submit(job, request_hash="")
            entry = f"{job.id}:{uuid.uuid4().hex}"
            self._client.zadd(queue.started_job_registry.key, {entry: time.time() + FAR})
            self._client.hset(DataJob.key_for(job.id), "status", "started")
        self._client.delete(queue.key)
