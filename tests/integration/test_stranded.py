"""Queues that no live worker takes, with whatever may lie in them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from rq.registry import StartedJobRegistry

from difuso.jobs.cascade import Enlarging
from difuso.jobs.contract import FailureCode, Job, JobState, Progress
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis import keys
from difuso.jobs.redis.keys import QueueName, known_queues, queue_key
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.workers import ModelReport, WorkerReport, publish_report
from difuso.model.folders.files import ref_of
from difuso.worker.engine.served_models import Folder, Models
from difuso.worker.queue import stranded
from difuso.worker.queue.reporting import Reporter
from difuso.worker.queue.rq_base import RqBase
from difuso.worker.queue.stranded import Stranded, Superseded
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import Runner

GONE, HERE, UP_GONE, UP_HERE = (digit * 64 for digit in "abcd")
PARAMS = SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def queue(client: redis.Redis) -> JobQueue:
    return JobQueue(client, result_ttl=60)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranded, "BIND_SECONDS", 0.0)
    monkeypatch.setattr(stranded, "LINGER_SECONDS", 0.0)


def models_here() -> Models:
    """One version each of the models `tiny` and `up`, as a worker holds them."""
    held = {"tiny": HERE, "up": UP_HERE}
    runners = {
        ref_of(name, version): cast(Runner, SimpleNamespace(checkpoint=SimpleNamespace(name=name, version=version)))
        for name, version in held.items()
    }
    folders = {name: Folder((), ref_of(name, version)) for name, version in held.items()}
    return Models(runners, folders, seen=dict.fromkeys(held, ()))


def looks(client: redis.Redis, *, version_wait: int = 600) -> Stranded:
    reporter = Reporter(client, models_here(), result_ttl=60)
    return Stranded(client, reporter, WorkerSettings(version_wait=version_wait, result_ttl=60))


def submit(queue: JobQueue, *, version: str = GONE, **facts: Any) -> Job:
    asked = {"model": "tiny", "params": PARAMS, "versions": (version,), **facts}
    job = Job(id=str(uuid.uuid4()), accepted_at=time.time(), timeout=60, **asked)
    assert queue.submit(job, request_hash="")
    return job


def name_of(job: Job) -> QueueName:
    return QueueName(job.ref, job.contract, job.urgency)


def holding(client: redis.Redis, name: str, **versions: str) -> None:
    models = tuple(ModelReport(name=model, version=each, ready=True) for model, each in versions.items())
    publish_report(client, WorkerReport(name=name, at=time.time(), slots=8, models=models))


def test_a_job_is_bound_once_with_its_place_its_work_and_no_steps(
    client: redis.Redis, queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose worker died goes to the front: it has waited long enough."""
    caplog.set_level("INFO")
    there = submit(queue, version=HERE).id.encode()
    jobs = [submit(queue), submit(queue, urgency=1), submit(queue)]
    client.hset(f"rq:job:{jobs[0].id}", mapping={"resumed_at": 7, "deaths": 1})
    client.set(keys.progress(jobs[0].id), Progress(image_steps=7).model_dump_json())
    client.hset(keys.backlog(jobs[0].ref), jobs[0].id, 3)
    for each in (looks(client), looks(client)):
        assert each.look(models_here()) == []
    assert client.hgetall(keys.backlog(jobs[0].ref)) == {}
    waiting = {
        urgency: client.lrange(queue_key(QueueName(ref_of("tiny", HERE), 1, urgency)), 0, -1) for urgency in (1, 3)
    }
    assert waiting == {1: [jobs[1].id.encode()], 3: [jobs[0].id.encode(), there, jobs[2].id.encode()]}
    assert [vars(line)["image_steps"] for line in caplog.records if "bound" in line.message] == [0, 7, 0]  # are void
    for job in jobs:
        status = queue.status(job.id)
        assert (status.job.versions, status.progress, status.state) == ((HERE,), Progress(), JobState.QUEUED)
        assert client.hget(keys.backlog(status.job.ref), job.id) == b"10"
    assert not client.hexists(f"rq:job:{jobs[0].id}", "resumed_at")
    queue.cancel(jobs[0].id)
    assert queue.status(jobs[0].id).state is JobState.CANCELLED


def test_jobs_of_a_version_that_somebody_holds_stay(client: redis.Redis, queue: JobQueue) -> None:
    job = submit(queue)
    holding(client, "another", tiny=GONE)
    assert looks(client, version_wait=1).look(models_here()) == []
    assert queue.status(job.id).job.versions == (GONE,)


def test_a_pinned_job_waits_and_then_fails(
    client: redis.Redis, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, now = submit(queue, pinned=True), time.monotonic()
    one = looks(client, version_wait=100)
    for seconds, ended in ((0, 0), (99, 0), (101, 1)):
        monkeypatch.setattr("difuso.worker.queue.stranded.time.monotonic", lambda: now + seconds)  # noqa: B023
        assert len(one.look(models_here())) == ended
    status = queue.status(job.id)
    assert (status.state, status.failure) == (JobState.FAILED, FailureCode.VERSION_GONE)
    assert client.ttl(f"rq:job:{job.id}") > 0


@pytest.mark.parametrize(
    "record",
    [
        {"data": b"no zlib"},
        {"versions": b"7"},
        {"origin": b"default"},
    ],
    ids=lambda record: "-".join(f"{name}{len(value)}" for name, value in record.items()),
)
def test_a_damaged_record_is_put_aside_and_stops_nobody(
    client: redis.Redis, queue: JobQueue, record: dict[str, bytes]
) -> None:
    damaged, fine = submit(queue), submit(queue)
    client.hset(f"rq:job:{damaged.id}", mapping=record)  # type: ignore[arg-type]
    client.lpush(queue_key(name_of(fine)), b"\xff\xfe", b"nothing")
    assert looks(client, version_wait=1).look(models_here()) == []
    assert queue.status(fine.id).job.versions == (HERE,)
    assert client.llen(queue_key(name_of(damaged))) == 0


def test_a_queue_is_forgotten_once_nothing_is_left_of_its_jobs(client: redis.Redis, queue: JobQueue) -> None:
    job = submit(queue)
    worker = RqBase(client, [], name="w")
    worker.tidy()
    assert known_queues(client) == [name_of(job)]
    client.delete(queue_key(name_of(job)))
    worker.tidy()
    assert known_queues(client) == []


def test_the_second_stage_is_bound_where_no_worker_holds_both(client: redis.Redis, queue: JobQueue) -> None:
    """Pinned or not: a pin is for the model of the request."""
    stage = Enlarging(
        steps=2, sampler="ddim", spacing="trailing", eta=0, variance="fixed_small", clip="static",
        model="up", augmentation=0, weight=4,
    )  # fmt: skip
    job = submit(queue, version=HERE, task=Generation(upscale=stage), versions=(HERE, UP_GONE), pinned=True)
    one = looks(client)
    holding(client, "both", tiny=HERE, up=UP_GONE)
    one.bind_second(job, models_here())
    assert queue.status(job.id).job.versions == (HERE, UP_GONE)
    holding(client, "both", tiny=GONE, up=UP_GONE)
    one.bind_second(job, models_here())
    assert queue.status(job.id).job.versions == (HERE, UP_HERE)


def test_a_superseded_version_stays_while_any_worker_may_need_it(client: redis.Redis, queue: JobQueue) -> None:
    job = submit(queue)
    one = Superseded(client)
    assert one.idle([job.ref], []) == [], "it waits"
    client.delete(queue_key(name_of(job)))
    running = StartedJobRegistry.key_template.format(name_of(job))
    client.zadd(running, {f"{job.id}:{'0' * 32}": time.time()})
    assert one.idle([job.ref], []) == [], "another worker runs it"
    client.delete(running)
    assert one.idle([job.ref], []) == [job.ref]
