"""Jobs that end before a worker has made a step of them are counted, and whoever waits for them is woken."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from prometheus_client import CollectorRegistry
from rq import Queue
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from difuso.jobs.contract import Job, JobState
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis import keys
from difuso.jobs.redis.events import status_channel
from difuso.jobs.redis.keys import running_key
from difuso.jobs.redis.queue import JobQueue
from difuso.worker.engine.failures import Cancelled
from difuso.worker.engine.held_jobs import Claim
from difuso.worker.engine.served_models import Models
from difuso.worker.metrics import WorkerMetrics
from difuso.worker.queue import rq_scripts
from difuso.worker.queue.claims import Claims
from difuso.worker.queue.outcomes import Outcomes
from difuso.worker.queue.reporting import Reporter
from difuso.worker.queue.rq_base import RqBase
from difuso.worker.stepping.runner import Runner

REF = "tiny@"  # of jobs without a version
QUEUE = keys.QueueName(REF, 1, 3)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def heard(client: redis.Redis) -> Iterator[Callable[[], list[Any]]]:
    """Returns the messages of all status channels since the test began."""
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
        pubsub.psubscribe(status_channel("*"))
        pubsub.get_message(timeout=5)

        def read() -> list[Any]:
            messages = iter(lambda: pubsub.get_message(timeout=0.2), None)
            return [(message["channel"].decode(), message["data"]) for message in messages]

        yield read


class Refusals:
    """A worker that can start no job."""

    def __init__(self, client: redis.Redis) -> None:
        self.registry, self.forgotten = CollectorRegistry(), list[str]()
        self.rq = RqBase(client, [QUEUE], name=f"difuso-{uuid.uuid4().hex[:12]}")
        writers = SimpleNamespace(forget=self.forgotten.append)
        reporter = Reporter(client, Models({}), result_ttl=60)
        self.outcomes = Outcomes(self.rq, reporter, cast(Any, writers), WorkerMetrics(self.registry))
        self._claims = Claims(client, {REF: cast(Runner, SimpleNamespace(slots=8))}, self.rq.name)

    def claim(self) -> Claim:
        (claim,) = self._claims.take(self.rq.queues, [])
        return claim

    def count(self, kind: str, outcome: str) -> float | None:
        labels = {"kind": kind, "model": "tiny", "outcome": outcome}
        return self.registry.get_sample_value("difuso_jobs_finished_total", labels)


def submit(client: redis.Redis, **facts: str) -> str:
    params = SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=str(uuid.uuid4()), model="tiny", params=params, accepted_at=time.time(), timeout=60)
    assert JobQueue(client, result_ttl=60).submit(job.model_copy(update=facts), request_hash="")
    return job.id


@pytest.mark.parametrize(
    ("error", "state"), [(JobUnreadable("no such model"), JobState.FAILED), (Cancelled(), JobState.CANCELLED)]
)
def test_a_refused_job_is_counted_and_reported(
    client: redis.Redis, heard: Callable[[], list[Any]], error: Exception, state: JobState
) -> None:
    worker, job_id = Refusals(client), submit(client)
    worker.outcomes.refuse(worker.claim(), error)
    assert JobQueue(client, result_ttl=60).status(job_id).state is state
    assert worker.count("generate", state) == 1
    assert heard() == [(status_channel(job_id), b"{}")]
    assert worker.forgotten == [job_id]


def test_a_job_that_cannot_be_read_is_counted_too(client: redis.Redis) -> None:
    worker = Refusals(client)
    Queue(str(QUEUE), connection=client, serializer=JSONSerializer).enqueue("os.system", "true")
    worker.outcomes.refuse(worker.claim(), JobUnreadable("not a job"))
    assert worker.count("unknown", "failed") == 1


def test_a_job_that_another_worker_has_is_neither_counted_nor_forgotten(
    client: redis.Redis, heard: Callable[[], list[Any]]
) -> None:
    worker, _ = Refusals(client), submit(client)
    claim = worker.claim()
    client.zrem(running_key(QUEUE), claim.entry)
    worker.outcomes.refuse(claim, JobUnreadable("no such model"))
    assert (worker.count("generate", "failed"), worker.forgotten, heard()) == (None, [], [])


def test_a_job_that_is_given_up_is_counted_and_reported(client: redis.Redis, heard: Callable[[], list[Any]]) -> None:
    worker, job_id = Refusals(client), submit(client)
    claim = worker.claim()
    client.hset(RqJob.key_for(job_id), "retries_left", 0)
    beat: Any = client.zscore(running_key(claim.queue), claim.entry)
    assert rq_scripts.recover(client, claim.queue, job_id, claim.execution, last_beat=beat)[0] == "failed"
    worker.outcomes.give_up([claim.record])
    assert worker.count("generate", "failed") == 1
    assert heard() == [(status_channel(job_id), b"{}")]
    assert worker.forgotten == [job_id]


def test_a_job_that_is_cancelled_in_its_queue_has_an_end(client: redis.Redis, heard: Callable[[], list[Any]]) -> None:
    began, job_id = time.time(), submit(client)
    ended_at = JobQueue(client, result_ttl=60).cancel(job_id).ended_at
    assert ended_at is not None
    assert began - 1 <= ended_at <= time.time() + 1
    assert heard() == [(status_channel(job_id), b"{}")]
