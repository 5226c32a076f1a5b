"""Whoever can write to Redis can spoil jobs, but not the processes that read them."""

from __future__ import annotations

import json
import time
import tracemalloc
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.settings import ApiSettings
from jobs.errors import JobUnreadable
from jobs.redis import keys
from jobs.redis.events import preview_channel, status_channel
from jobs.redis.queue import JobQueue
from jobs.redis.rq_job import DataJob
from tests.app_server import ALICE, FakeWorker, keys_file, running
from tests.waiting import WaitUntil

ASYNC = {"Prefer": "respond-async"}
DEEP = 100_000 * b"[" + 100_000 * b"]"
MEGABYTE = 1 << 20
DIGITS = 5000 * b"9"


def report(**model: Any) -> bytes:
    facts = {"name": "w", "at": time.time(), "slots": 8, "models": [{"name": "tiny", "ready": True, **model}]}
    return json.dumps(facts).encode()


def everything_answers(api: httpx.Client) -> None:
    for path in ("/models", "/models/tiny", "/readyz?verbose", "/metrics"):
        assert api.get(path).status_code == 200, path
    assert "difuso_queue_oldest_age_seconds" in api.get("/metrics").text
    answer = api.post("/generate", headers=ASYNC)
    assert answer.status_code == 202, answer.text
    job = api.get(answer.headers["Location"])
    assert (job.status_code, job.json()["state"]) == (200, "queued"), job.text


@pytest.mark.parametrize("value", [b"many", b"", b"-7", b"1e3", b"nan", b"\xff", b"\xd9\xa3", DIGITS, bytes(MEGABYTE)])
def test_a_backlog_of_what_is_no_number_is_none(api: httpx.Client, worker: FakeWorker, value: bytes) -> None:
    worker.report(ready=True, rate=10.0)
    worker.client.hset(keys.backlog(worker.ref()), str(uuid.uuid4()), value)
    worker.client.hset(keys.backlog(worker.ref()), b"\xff\x00", b"10")
    everything_answers(api)
    assert 'difuso_backlog_image_steps{model="tiny"} 60.0' in api.get("/metrics").text


@pytest.mark.parametrize("entry", [b"\xff\xfe", b"", b"x", bytes(MEGABYTE)])
def test_a_queue_may_hold_what_is_no_id(api: httpx.Client, worker: FakeWorker, entry: bytes) -> None:
    worker.client.rpush(worker.queue_key, entry)
    worker.client.hset(b"rq:job:" + entry, "enqueued_at", b"\xff yesterday")
    everything_answers(api)


@pytest.mark.parametrize(
    "value",
    [
        DEEP,
        b'{"models":' + DEEP + b"}",
        b"\xff",
        b'"\\ud800"',
        bytes(MEGABYTE),
        report(rate=1e-320),
        report(rate=1e308),
        report(rate=-1),
        report(rate=10**400),
        report(step_seconds=1e308),
        report(step_seconds=-5),
    ],
    ids=range(11),  # the reports have the time in them, which no name of a test may
)
def test_a_report_that_no_worker_makes_is_overlooked(api: httpx.Client, worker: FakeWorker, value: bytes) -> None:
    worker.client.hset(keys.WORKERS, b"\xff", value)
    assert api.post("/generate", headers=ASYNC).status_code == 202
    everything_answers(api)
    assert api.get("/models/tiny").json()["state"] == "unknown"


def test_thousands_of_reports_are_not_all_read(api: httpx.Client, worker: FakeWorker) -> None:
    large = report(reason=50_000 * "x")
    for number in range(300):
        worker.client.hset(keys.WORKERS, str(number), large)
    assert api.get("/readyz?verbose").json()["workers"] < 100
    everything_answers(api)


def change(content: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        content = content[parent]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("accepted_at", 1e300),
        ("accepted_at", -1e300),
        ("timeout", 10**30),
        ("model", "\ud800"),
        ("model", "../../tiny"),
        ("params.steps", 10**4000),
        ("params.label", 10**4000),
        ("params.spacing", "\ud800"),
        ("owner", "\ud800"),
        ("request_id", "\ud800"),
        ("pictures", [{"sha256": "../../../manifest", "width": 1, "height": 1}]),
        ("pictures", [{"sha256": "0" * 64, "width": 10**400, "height": 1}]),
        ("task", {"kind": "denoise", "depth": 10**4000}),
        ("id", "00000000-0000-4000-8000-000000000000"),
    ],
)
def test_a_job_beyond_all_bounds_is_unreadable(api: httpx.Client, worker: FakeWorker, path: str, value: Any) -> None:
    spoil(api, worker, lambda content: change(content, path, value))


def spoil(api: httpx.Client, worker: FakeWorker, change: Callable[[dict[str, Any]], None]) -> None:
    job = api.post("/generate", headers=ASYNC | {"Idempotency-Key": "k"}).json()
    record = f"rq:job:{job['id']}"
    data: Any = worker.client.hget(record, "data")
    call = json.loads(zlib.decompress(data))
    change(call[3]["job"])
    worker.client.hset(record, "data", zlib.compress(json.dumps(call).encode()))
    must_be_unreadable(api, job["id"])


def must_be_unreadable(api: httpx.Client, job_id: str) -> None:
    for path in ("", "/events", "/image", "/images/0"):
        answer = api.get(f"/jobs/{job_id}{path}")
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/job-unreadable"), path
    for answer in (api.delete(f"/jobs/{job_id}"), api.post("/generate", headers=ASYNC | {"Idempotency-Key": "k"})):
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/job-unreadable")
    everything_answers(api)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", bytes(MEGABYTE)),
        ("data", zlib.compress(bytes(60 * MEGABYTE), 9)),
        ("data", zlib.compress(DEEP)),
        ("data", zlib.compress(b'["difuso.job", null, [], {"job": ' + DEEP + b"}]")),
        ("data", zlib.compress(b"\xff")),
        ("status", b"\xff"),
        ("started_at", b"9999-12-31T23:59:59.999999Z"),
        ("ended_at", b"0001-01-01T00:00:00+14:00"),
        ("deaths", DIGITS),
    ],
)
def test_a_record_that_rq_did_not_write_is_unreadable(
    api: httpx.Client, worker: FakeWorker, field: str, value: bytes
) -> None:
    job_id = api.post("/generate", headers=ASYNC | {"Idempotency-Key": "k"}).json()["id"]
    worker.client.hset(f"rq:job:{job_id}", field, value)
    must_be_unreadable(api, job_id)


@pytest.mark.parametrize("value", [DEEP, b'{"request_hash": ' + DEEP + b"}", b"\xff", b"{}", bytes(MEGABYTE)])
def test_a_repeated_request_whose_job_does_not_know_its_request_is_no_error_of_ours(
    api: httpx.Client, worker: FakeWorker, value: bytes
) -> None:
    key = ASYNC | {"Idempotency-Key": "k"}
    job_id = api.post("/generate", headers=key).json()["id"]
    worker.client.hset(f"rq:job:{job_id}", "meta", value)
    assert api.post("/generate", headers=key).json()["type"] == "/problems/job-unreadable"


NONSENSE = [DEEP, b"\xff", b'{"image_steps": -1}', b'{"eta_seconds": 1e308}', bytes(5 * MEGABYTE)]


@pytest.mark.parametrize("value", NONSENSE)
def test_progress_that_no_worker_tells_makes_the_job_unreadable(
    api: httpx.Client, worker: FakeWorker, value: bytes
) -> None:
    job_id = api.post("/generate", headers=ASYNC | {"Idempotency-Key": "k"}).json()["id"]
    worker.client.set(keys.progress(job_id), value)
    must_be_unreadable(api, job_id)


@pytest.mark.parametrize("value", NONSENSE)
def test_timesteps_that_no_worker_tells_are_not_shown(api: httpx.Client, worker: FakeWorker, value: bytes) -> None:
    job_id = api.post("/generate", headers=ASYNC).json()["id"]
    worker.client.set(keys.timesteps(job_id), value)
    answer = api.get(f"/jobs/{job_id}?timesteps=true")
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/job-unreadable")
    assert api.get(f"/jobs/{job_id}").status_code == 200
    everything_answers(api)


@pytest.mark.parametrize("content", [DEEP, bytes(5 * MEGABYTE), b"\xff", b"[]", b'{"index": "x"}', b'{"index": 0}'])
def test_whatever_is_published_the_next_event_is_heard(
    api: httpx.Client, worker: FakeWorker, wait_until: WaitUntil, content: bytes
) -> None:
    job_id = api.post("/generate", headers=ASYNC).json()["id"]
    with api.stream("GET", f"/jobs/{job_id}/events", timeout=5) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: progress"
        for channel in (status_channel(job_id), preview_channel(job_id)):
            worker.client.publish(channel, content)
        worker.publish(preview_channel(job_id), json.dumps({"index": 0, "image_steps": 20, "png": "aGk="}))
        assert "event: preview" in lines
        assert "aGk=" in next(lines)


@pytest.fixture
def limited(redis_url: str, models_dir: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """An API where alice has limits."""
    settings = ApiSettings(
        redis_url=redis_url,
        models_dir=models_dir,
        store_url=str(tmp_path / "store"),
        api_keys_file=keys_file(tmp_path, "rate=1000 unfinished=5000"),
    )
    with running(settings) as client:
        yield client


@pytest.mark.parametrize("value", [b"x", b"", b"\xff", b"nan inf", b"1e308 1e308", b"-1e308 0", DIGITS])
def test_shares_and_accounts_that_are_no_numbers_keep_nobody_out(
    limited: httpx.Client, worker: FakeWorker, value: bytes
) -> None:
    other = limited.post("/generate", headers=ASYNC | ALICE).json()["id"]
    worker.client.hset(keys.shares("alice"), mapping={other: value, "x": value})
    worker.client.set("rq:job:y", "a string")
    worker.client.hset(keys.shares("alice"), "y", "10 0.0")
    worker.client.hset(keys.account("alice"), mapping={"balance": value, "at": value})
    for _ in range(2):
        answer = limited.post("/generate", headers=ASYNC | ALICE)
        assert answer.status_code == 202, answer.text


def test_two_gigabytes_in_a_record_are_not_unpacked(redis_url: str) -> None:
    """Neither to tell where the job stands, nor by RQ when a worker takes it."""
    packing = zlib.compressobj(9)
    bomb = b"".join([*(packing.compress(bytes(64 * MEGABYTE)) for _ in range(4)), packing.flush()])
    with redis.Redis.from_url(redis_url) as client:
        client.hset("rq:job:bomb", mapping={"data": bomb, "exc_info": bomb, "created_at": "2026-11-25T00:00:00Z"})
        tracemalloc.start()
        try:
            with pytest.raises(JobUnreadable):
                JobQueue(client, result_ttl=60).status("bomb")
            with pytest.raises(JobUnreadable):
                DataJob.read("bomb", client)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 10 * MEGABYTE
