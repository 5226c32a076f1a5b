"""The queue on a real Redis: nothing stored runs, and versions may differ."""

from __future__ import annotations

import json
import time
import uuid

import pytest
import redis
from rq.serializers import JSONSerializer

from jobs import keys
from jobs.contract import Job, JobKind, JobState, SamplingParams, WorkerReport
from jobs.queue import JobQueue
from jobs.rq_job import DataJob
from jobs.workers import prune_reports


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)


@pytest.fixture
def queue(client: redis.Redis) -> JobQueue:
    return JobQueue(client, result_ttl=60)


def job(**params: object) -> Job:
    filled = {"n": 2, "steps": 10, "sampler": "ddim", "spacing": "leading", "eta": 0.0, "seed": 0} | params
    return Job(
        id=str(uuid.uuid4()),
        kind=JobKind.GENERATE,
        model="tiny",
        params=SamplingParams.model_validate(filled),
        accepted_at=time.time(),
        timeout=60,
    )


def test_planted_callbacks_and_webhooks_are_forgotten(client: redis.Redis, queue: JobQueue) -> None:
    accepted = job()
    queue.submit(accepted, request_hash="")
    for field in ("failure_callback_name", "success_callback_name"):
        client.hset(f"rq:job:{accepted.id}", field, "os.system")
    client.hset(f"rq:job:{accepted.id}", "webhooks", "[{}]")
    found = DataJob.fetch(accepted.id, connection=client, serializer=JSONSerializer)
    assert found.failure_callback is None
    assert found.success_callback is None
    assert found.webhooks == []


def test_reports_of_a_newer_version_are_read_and_others_skipped(client: redis.Redis, queue: JobQueue) -> None:
    newer = WorkerReport(name="newer", at=time.time(), slots=8, models={}).model_dump() | {"mood": "good"}
    stale = WorkerReport(name="stale", at=time.time() - 100, slots=8, models={}).model_dump()
    for name, value in {"newer": json.dumps(newer), "stale": json.dumps(stale), "broken": "{"}.items():
        client.hset(keys.WORKERS, name, value)
    assert [report.name for report in queue.workers()] == ["newer"]
    prune_reports(client)
    assert client.hkeys(keys.WORKERS) == [b"newer"]


def test_a_cancelled_job_is_gone_from_everywhere(client: redis.Redis, queue: JobQueue) -> None:
    accepted = job()
    queue.submit(accepted, request_hash="")
    assert queue.backlog("tiny").image_steps == 20
    for _ in range(2):
        status = queue.cancel(accepted.id)
        assert status.state is JobState.CANCELLED
        assert status.attempts == 0
    assert queue.backlog("tiny").jobs == 0
    assert client.ttl(f"rq:job:{accepted.id}") > 0
    assert client.llen("rq:queue:difuso.tiny.3") == 0


def test_the_outlook_counts_what_comes_before(client: redis.Redis, queue: JobQueue) -> None:
    models = {"tiny": {"ready": True, "rate": 10.0, "step_seconds": 0.5}}
    report = WorkerReport.model_validate({"name": "w", "at": time.time(), "slots": 8, "models": models})
    client.hset(keys.WORKERS, "w", report.model_dump_json())
    first, second = job(n=8), job(n=1)
    for accepted in (first, second):
        queue.submit(accepted, request_hash="")
    assert queue.status(first.id).position == 0
    assert queue.status(first.id).eta_seconds == 80 / 10
    assert queue.status(second.id).position == 1
    assert queue.status(second.id).eta_seconds == (80 + 10) / 10
    queue.cancel(first.id)
    assert queue.status(second.id).eta_seconds == 10 * 0.5, "no image is faster than alone"
