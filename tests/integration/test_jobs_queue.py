"""The queue on a real Redis: nothing stored runs, and versions may differ."""

from __future__ import annotations

import json
import time
import uuid
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
import redis
from rq import Queue, Retry
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer
from rq.utils import now

from difuso.jobs.conditions import Values, read_values
from difuso.jobs.contract import TASK, Job, JobState
from difuso.jobs.errors import JobNotFound, JobUnreadable, RequestRefused
from difuso.jobs.params import MAX_CONDITION_TEXT, MAX_IMAGES, MAX_SEED, SamplingParams
from difuso.jobs.redis import keys
from difuso.jobs.redis.index import description
from difuso.jobs.redis.job_records import DEATHS, MAX_RETRIES, JobRecord
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.status import needs_uploads
from difuso.jobs.redis.workers import LOST_SECONDS, WorkerReport, prune_reports, publish_report
from difuso.model.conditions import Vector


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
        model="tiny",
        params=SamplingParams.model_validate(filled),
        accepted_at=time.time(),
        timeout=60,
    )


def longest_values() -> Values:
    """Conditions that no other values may follow, of random digits."""
    rng, size = np.random.default_rng(0), 400
    conditions = {"a": Vector(size)}
    vectors = [rng.uniform(-1e6, 1e6, size).tolist() for _ in range(MAX_IMAGES)]
    while True:
        try:
            values = read_values({"a": (vectors,)}, conditions, model="m")
        except RequestRefused:
            vectors.pop()
        else:
            assert MAX_CONDITION_TEXT - len(json.dumps(values)) < 30 * size
            return values


def test_the_longest_job_that_is_accepted_is_read_again(client: redis.Redis, queue: JobQueue) -> None:
    values = longest_values()
    n = len(values["a"])
    accepted = job(n=n, seed=[MAX_SEED - i for i in range(n)], label=[*range(n)], conditions=values)
    queue.submit(accepted, request_hash="h")
    record = client.hget(f"rq:job:{accepted.id}", "data")
    assert record is not None
    assert len(record) > 1 << 16
    assert queue.status(accepted.id).job == accepted
    assert queue.submit(accepted, request_hash="h") is False
    fields = cast(dict[bytes, bytes], client.hgetall(f"rq:job:{accepted.id}"))
    assert Job.decode(JobRecord.of(accepted.id, fields).arguments["job"]) == accepted


def reads(client: redis.Redis) -> int:
    """How often the server has heard from anybody."""
    return int(client.info("stats")["total_reads_processed"])


def test_reports_of_a_newer_version_are_read_and_others_skipped(client: redis.Redis, queue: JobQueue) -> None:
    newer = WorkerReport(name="newer", at=time.time(), slots=8, models=()).model_dump(mode="json") | {"mood": "good"}
    for name, value in {"newer": json.dumps(newer), "broken": "{"}.items():
        client.hset(keys.WORKERS, name, value)
    assert [report.name for report in queue.workers()] == ["newer"]
    prune_reports(client)
    assert client.hkeys(keys.WORKERS) == [b"newer"]


def test_a_worker_that_was_frozen_stays_held_back_and_a_dead_one_is_forgotten(
    client: redis.Redis, queue: JobQueue
) -> None:
    for name, silent in {"live": 0, "frozen": 100, "dead": LOST_SECONDS + 1}.items():
        publish_report(client, WorkerReport(name=name, at=time.time() - silent, slots=8, models=()))
        queue.hold("worker", name)
    client.hset(keys.WORKERS, "of_a_newer_difuso", "{")
    queue.hold("worker", "of_a_newer_difuso")
    assert [report.name for report in queue.workers()] == ["live"]
    prune_reports(client)
    assert queue.holds().workers == {"live", "frozen", "of_a_newer_difuso"}
    assert client.hlen(keys.WORKERS) == 2


def test_a_cancelled_job_is_gone_from_everywhere(client: redis.Redis, queue: JobQueue) -> None:
    accepted = job()
    queue.submit(accepted, request_hash="")
    assert queue.backlog("tiny@").image_steps == 20
    for _ in range(2):
        status = queue.cancel(accepted.id)
        assert status.state is JobState.CANCELLED
        assert status.attempts == 0
    assert queue.backlog("tiny@").jobs == 0
    assert client.ttl(f"rq:job:{accepted.id}") > 0
    assert client.llen("rq:queue:difuso.tiny@.1.3") == 0


def test_the_outlook_counts_what_comes_before(client: redis.Redis, queue: JobQueue) -> None:
    models = [{"name": "tiny", "ready": True, "rate": 10.0, "step_seconds": 0.5}]
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


def test_the_status_of_a_job_is_asked_for_in_one_go(client: redis.Redis, queue: JobQueue) -> None:
    """Clients ask for nothing more often; only a job that waits needs a second look, at what is before it."""
    accepted = job()
    queue.submit(accepted, request_hash="")
    for state, looks in ((RqStatus.QUEUED, 2), (RqStatus.STARTED, 1), (RqStatus.FINISHED, 1)):
        client.hset(f"rq:job:{accepted.id}", "status", state.value)
        before = reads(client)
        queue.status(accepted.id)
        assert reads(client) - before - 1 == looks, state


def test_the_record_of_a_new_job_is_what_rq_writes(client: redis.Redis, queue: JobQueue) -> None:
    """`accept` writes it itself, and so `Job.fetch` and `rq info` show our jobs."""
    accepted = job(n=2).model_copy(update={"tag": 'a \\ "tag"'})
    assert queue.submit(accepted, request_hash="h") is True
    listed = Queue("difuso.tiny@.1.3", connection=client, serializer=JSONSerializer)
    assert listed.job_ids == [accepted.id]
    assert listed in Queue.all(connection=client, serializer=JSONSerializer)
    elsewhere = Queue("elsewhere", connection=client, serializer=JSONSerializer)
    theirs = elsewhere.enqueue_job(
        elsewhere.create_job(
            TASK,
            kwargs={"job": accepted.model_dump(mode="json")},
            timeout=accepted.timeout,
            result_ttl=2 * 60,
            failure_ttl=2 * 60,
            retry=Retry(max=MAX_RETRIES),
            meta={"request_hash": "h"},
            description=description(accepted),
        )
    )
    ours, theirs = (
        RqJob.fetch(each, connection=client, serializer=JSONSerializer) for each in (accepted.id, theirs.id)
    )
    assert Job.decode(ours.kwargs["job"]) == accepted
    assert (ours.origin, ours.get_status()) == ("difuso.tiny@.1.3", RqStatus.QUEUED)
    for name in (
        *("func_name", "args", "kwargs", "timeout", "result_ttl", "failure_ttl", "meta", "description"),
        *("retries_left", "started_at", "ended_at", "worker_name", "dependency_ids"),
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("created_at", "enqueued_at"):
        assert abs(getattr(ours, name) - getattr(theirs, name)) < timedelta(seconds=60)
    records: list[Any] = [client.hgetall(each.key) for each in (ours, theirs)]
    data, others = (json.loads(zlib.decompress(record[b"data"])) for record in records)
    assert data == others
    assert records[0].keys() <= records[1].keys()
    left_out = {name for name in records[1].keys() - records[0].keys() if records[1][name]}
    assert left_out <= {b"retry_intervals"}, "no worker of RQ tries our jobs again"


def test_the_status_agrees_with_rq(client: redis.Redis, queue: JobQueue) -> None:
    """It is read without RQ's own object, so this test holds the two together."""
    accepted = job()
    queue.submit(accepted, request_hash="")
    rq_job = RqJob.fetch(accepted.id, connection=client, serializer=JSONSerializer)
    assert queue.status(accepted.id).attempts == 0
    rq_job.started_at = now()
    rq_job.save()
    rq_job.set_status(RqStatus.STARTED)
    status = queue.status(accepted.id)
    assert (status.job, status.state, status.attempts) == (accepted, JobState.RUNNING, 1)
    assert status.started_at == rq_job.started_at.timestamp()
    rq_job.ended_at = now()
    rq_job.save()
    client.hset(rq_job.key, DEATHS, 1)
    rq_job.set_status(RqStatus.FINISHED)
    status = queue.status(accepted.id)
    assert (status.state, status.attempts) == (JobState.SUCCEEDED, 2)
    assert status.ended_at == rq_job.ended_at.timestamp()
    assert status.expires_at == status.ended_at + 60


def test_uploads_are_needed_until_the_pictures_made_of_them_are_gone(client: redis.Redis, queue: JobQueue) -> None:
    accepted = job()
    queue.submit(accepted, request_hash="")
    record = f"rq:job:{accepted.id}"
    for state, ended, needed in (
        ("queued", None, True),
        ("started", None, True),
        ("finished", time.time(), True),
        ("finished", time.time() - 70, False),
        ("canceled", None, False),
    ):
        client.hset(record, "status", state)
        client.hset(record, "ended_at", "" if ended is None else datetime.fromtimestamp(ended, UTC).isoformat())
        assert needs_uploads(client, accepted.id, result_ttl=60) is needed
    assert not needs_uploads(client, str(uuid.uuid4()), result_ttl=60)


def test_a_record_that_is_no_job_is_unreadable_and_spoils_no_list(client: redis.Redis, queue: JobQueue) -> None:
    with pytest.raises(JobNotFound):
        queue.status(str(uuid.uuid4()))
    client.hset("rq:job:garbage", "data", "no job")
    for look in (queue.status, queue.cancel):
        with pytest.raises(JobUnreadable):
            look("garbage")
