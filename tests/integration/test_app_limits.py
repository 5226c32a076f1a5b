"""What one API key may ask for, in image-steps; and that nothing of it is lost, whatever becomes of a job."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import httpx
import pytest
import redis
from PIL import Image

from difuso.app.settings import ApiSettings
from difuso.jobs.contract import FailureCode, Job
from difuso.jobs.cost import Cost
from difuso.jobs.errors import IdempotencyConflict
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis import keys, limits
from difuso.jobs.redis.queue import JobQueue
from tests.app_server import ALICE, BOB, FakeWorker, keys_file, running
from tests.lost_replies import LosesReply
from tests.pictures import black_png, saved

ASYNC = {"Prefer": "respond-async"}


def settings(redis_url: str, models_dir: Path, folder: Path, limit: str) -> ApiSettings:
    return ApiSettings(
        redis_url=redis_url,
        models_dir=models_dir,
        store_url=str(folder / "store"),
        api_keys_file=keys_file(folder, limit),
    )


@pytest.fixture
def limited(redis_url: str, models_dir: Path, tmp_path: Path) -> ApiSettings:
    return settings(redis_url, models_dir, tmp_path, "unfinished=100")


@pytest.fixture
def worker(limited: ApiSettings) -> Iterator[FakeWorker]:
    worker = FakeWorker(limited)
    yield worker
    worker.client.close()


@pytest.fixture
def api(limited: ApiSettings) -> Iterator[httpx.Client]:
    with running(limited) as client:
        yield client


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def job_of(steps: int) -> Job:
    params = SamplingParams(n=1, steps=steps, sampler="ddim", spacing="leading", eta=0, seed=0)
    return Job(id=str(uuid.uuid4()), model="tiny", params=params, accepted_at=0, timeout=1, owner="alice")


def queue_of(client: redis.Redis) -> JobQueue:
    return JobQueue(client, result_ttl=1000)


def post(api: httpx.Client, steps: int, **headers: str) -> httpx.Response:
    return api.post(f"/generate?steps={steps}", headers={**ASYNC, **ALICE, **headers})


def refused(response: httpx.Response, said: str) -> None:
    assert (response.status_code, response.json()["type"]) == (429, "/problems/limit-reached"), response.text
    assert said in response.json()["detail"]
    assert response.json()["retry_after"] == int(response.headers["Retry-After"]) > 0


def test_a_share_comes_back_however_a_job_ends(api: httpx.Client, worker: FakeWorker) -> None:
    def cancel_queued(job: str) -> None:
        assert api.delete(f"/jobs/{job}", headers=ALICE).status_code == 200

    def cancel_running(job: str) -> None:
        worker.start(job)
        assert api.delete(f"/jobs/{job}", headers=ALICE).status_code == 202
        refused(post(api, 1), "100 image-steps")  # it still runs
        worker.cancel(job)

    def expire(job: str) -> None:
        worker.succeed(job)
        worker.client.delete(f"rq:job:{job}")

    def fail(job: str) -> None:
        worker.fail(job, FailureCode.INTERNAL)

    for end in (worker.succeed, fail, cancel_queued, cancel_running, expire):
        accepted = post(api, 100)
        assert accepted.status_code == 202, end
        refused(
            post(api, 1),
            "100 image-steps of your API key are unfinished, and this request takes 1 more; the limit is 100",
        )
        end(accepted.json()["id"])
    assert post(api, 100).status_code == 202


def test_many_requests_at_once_cannot_take_more_than_there_is(api: httpx.Client) -> None:
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: post(api, 30).status_code, range(20)))
    assert sorted(codes) == [202] * 3 + [429] * 17


def test_a_request_that_could_never_be_let_in_learns_so(api: httpx.Client) -> None:
    response = api.post("/generate?n=3&steps=34", headers={**ASYNC, **ALICE})
    assert response.status_code == 422
    assert response.json()["errors"][0]["parameter"] == "steps"
    assert "102" in response.json()["detail"]
    assert left(response) == {"unfinished": {"r": 100}}


def test_a_request_that_is_refused_for_the_work_of_others_learns_what_is_left(limited: ApiSettings) -> None:
    with running(limited.model_copy(update={"max_jobs": 1})) as api:
        assert api.post("/generate?steps=50", headers=ASYNC | BOB).status_code == 202
        response = post(api, 1)
    assert (response.status_code, response.json()["type"]) == (429, "/problems/overloaded")
    assert left(response) == {"unfinished": {"r": 100}}


def test_a_repeated_request_is_its_job_even_at_the_limit(api: httpx.Client) -> None:
    first = post(api, 100, **{"Idempotency-Key": "once"})
    again = post(api, 100, **{"Idempotency-Key": "once"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["Location"] == again.headers["Location"]


def test_the_flood_of_one_key_does_not_stop_another(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(ready=True, rate=10.0)
    with ThreadPoolExecutor(20) as pool:
        flood = pool.map(lambda _: post(api, 50).status_code, range(200))
        bob = api.post("/generate?steps=50", headers={**ASYNC, **BOB})
        codes = list(flood)
    assert codes.count(202) == 2
    assert bob.status_code == 202
    assert bob.json()["position"] <= 2
    refused(post(api, 50), "unfinished")
    assert post(api, 50).json()["retry_after"] == 5  # 50 image-steps at 10 a second


def test_a_rate_lets_large_jobs_in_and_the_next_one_wait(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    with (
        running(settings(redis_url, models_dir, tmp_path, "rate=10")) as api,
        redis.Redis.from_url(redis_url) as client,
    ):
        assert post(api, 500).status_code == 202  # of the 600 of a full minute
        assert post(api, 1000).status_code == 202
        refused(post(api, 1), "10 image-steps per second")
        assert 80 <= post(api, 1).json()["retry_after"] <= 90
        at = float(client.hget(keys.account("alice"), "at") or 0)
        client.hset(keys.account("alice"), "at", str(at - 100))
        assert post(api, 1).status_code == 202
        assert 0 < client.ttl(keys.account("alice")) <= 62
        assert api.post("/generate?steps=1000", headers={**ASYNC, **BOB}).status_code == 202


def test_a_clock_of_redis_that_steps_back_locks_nobody_out(client: redis.Redis) -> None:
    limit = limits.Limits(rate=10)

    def ask(steps: int) -> limits.Refusal | None:
        answer = queue_of(client).submit(job_of(steps), request_hash="", cost=Cost(steps, 0), limits=limit)
        return None if answer is True else cast(limits.Refusal, answer)

    def step_back() -> None:
        at = float(client.hget(keys.account("alice"), "at") or 0)
        client.hset(keys.account("alice"), "at", at + 3600)

    assert ask(500) is None  # of the 600 of a full minute
    step_back()
    assert ask(150) is None
    step_back()
    late = ask(1)
    assert late is not None
    assert 4 <= late.amount <= 5  # seconds until it has the 50 image-steps that it owes
    client.hset(keys.account("alice"), "at", float(client.hget(keys.account("alice"), "at") or 0) - 6)
    assert ask(1) is None, "the time after the step counts"


def test_each_request_learns_what_is_left(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    limit = settings(redis_url, models_dir, tmp_path, "rate=0.1 unfinished=100")
    with running(limit) as api, redis.Redis.from_url(redis_url) as client:
        first = post(api, 4)
        policy = '"rate";q=6;qu="image-steps";w=60, "unfinished";q=100;qu="image-steps"'
        assert first.headers["RateLimit-Policy"] == policy
        assert left(first) == {"rate": {"r": 3}, "unfinished": {"r": 96}}  # 2 and what has come since
        second = post(api, 40)
        state = left(second)
        assert state["unfinished"] == {"r": 56}
        assert state["rate"]["r"] == 0
        assert 370 <= state["rate"]["t"] <= 380  # 38 below nothing
        over = post(api, 60)
        refused(over, "unfinished")
        assert left(over)["unfinished"] == {"r": 56}
        late = post(api, 1)
        refused(late, "per second")
        assert int(late.headers["Retry-After"]) >= left(late)["rate"]["t"] > 0
        api.delete(first.json()["links"]["self"], headers=ALICE)
        at = float(client.hget(keys.account("alice"), "at") or 0)
        client.hset(keys.account("alice"), "at", str(at - 1000))
        assert left(post(api, 3)) == {"rate": {"r": 4}, "unfinished": {"r": 57}}
        for answer in (api.post("/generate", headers=ASYNC | BOB), api.get("/models", headers=ALICE)):
            assert "RateLimit" not in answer.headers
            assert "RateLimit-Policy" not in answer.headers


def left(answer: httpx.Response) -> dict[str, dict[str, int]]:
    """The RateLimit header."""
    found = {}
    for item in answer.headers["RateLimit"].split(", "):
        name, *parameters = item.split(";")
        found[name.strip('"')] = {each[0]: int(each[2:]) for each in parameters}
    return found


def test_a_key_stores_no_more_than_it_may_and_learns_when_there_is_room(
    redis_url: str, models_dir: Path, tmp_path: Path
) -> None:
    """However few image-steps it takes: a trace of 64 calls is a hundred times its image."""
    limited = settings(redis_url, models_dir, tmp_path, "stored=920000")
    with running(limited) as api, redis.Redis.from_url(redis_url) as client:
        traced = "/generate?steps=64&trace=all"
        price = api.post(f"{traced}&dry_run=true", headers=ALICE)
        most = price.json()["stored_bytes"]
        assert 64 * 2 * 4 * 3 * 16 * 16 < most < 920_000 / 2
        assert left(price) == {"stored": {"r": 920_000}}
        assert price.headers["RateLimit-Policy"] == '"stored";q=920000;qu="stored-bytes";w=86400'
        for accepted in (1, 2):
            answer = api.post(traced, headers={**ASYNC, **ALICE})
            assert answer.status_code == 202
            assert left(answer)["stored"]["r"] == pytest.approx(920_000 - accepted * most, abs=1000)
        for more in ("", "&dry_run=true"):
            late = api.post(traced + more, headers={**ASYNC, **ALICE})
            refused(late, f"may store {most} bytes")
            missing = most - left(late)["stored"]["r"]
            assert int(late.headers["Retry-After"]) == pytest.approx(missing * 86_400 / 920_000, rel=0.01)
        assert post(api, 64).status_code == 202, "without a trace it takes little"
        at = float(client.hget(keys.room("alice"), "at") or 0)
        client.hset(keys.room("alice"), "at", str(at - 86_400))
        assert api.post(traced, headers={**ASYNC, **ALICE}).status_code == 202
        assert 0 < client.ttl(keys.room("alice")) <= 86_402
        large = api.post("/generate?n=3&steps=64&trace=all", headers={**ASYNC, **ALICE})
        assert (large.status_code, large.json()["errors"][0]["parameter"]) == (422, "n")
        assert "920000" in large.json()["detail"]
        assert api.post("/generate?n=3&steps=64&trace=all", headers={**ASYNC, **BOB}).status_code == 202


def test_a_job_that_redis_does_not_take_costs_nothing(client: redis.Redis) -> None:
    """It is out of memory for so long."""
    queue, limit, job = queue_of(client), limits.Limits(rate=10, unfinished=100, stored=100), job_of(60)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError):
            queue.submit(job, request_hash="", cost=Cost(60, 80), limits=limit)
    finally:
        client.config_set("maxmemory", 0)
    assert client.keys() == []
    assert queue.usage("alice", limit) == limits.Usage(unfinished=0, balance=600, room=100)
    assert queue.submit(job, request_hash="", cost=Cost(60, 80), limits=limit) is True


def test_a_job_is_accepted_and_paid_once_though_the_reply_was_lost(client: redis.Redis) -> None:
    limit, job = limits.Limits(rate=0.1, unfinished=10, stored=1000), job_of(6)
    deaf = LosesReply(client)
    assert queue_of(cast(redis.Redis, deaf)).submit(job, request_hash="h", cost=Cost(6, 80), limits=limit) is True
    assert deaf.lost == 1
    used = queue_of(client).usage("alice", limit)
    assert used.unfinished == 6
    assert used.balance == pytest.approx(0, abs=1)
    assert used.room == pytest.approx(920, abs=10)
    assert client.lrange("rq:queue:difuso.tiny@.1.3", 0, -1) == [job.id.encode()]
    assert client.hgetall(keys.backlog("tiny@")) == {job.id.encode(): b"6"}


def test_a_request_with_the_key_of_another_pays_nothing_and_goes_nowhere(client: redis.Redis) -> None:
    """With one Idempotency-Key a large request could otherwise go where a small one has paid."""
    queue, limit = queue_of(client), limits.Limits(rate=10, unfinished=100, stored=100)
    job = job_of(60)
    assert queue.submit(job, request_hash="small", cost=Cost(60, 50), limits=limit) is True
    large = job_of(90).model_copy(update={"id": job.id})
    with pytest.raises(IdempotencyConflict):
        queue.submit(large, request_hash="large", cost=Cost(90, 90), limits=limit)
    assert queue.submit(job, request_hash="small", cost=Cost(60, 50), limits=limit) is False
    used = queue.usage("alice", limit)
    assert used.unfinished == 60
    assert used.balance == pytest.approx(540, abs=5)
    assert used.room == pytest.approx(50, abs=1)
    assert queue.status(job.id).job == job


def test_a_key_that_is_used_again_after_its_job_is_forgotten_pays_again(client: redis.Redis) -> None:
    queue, limit = queue_of(client), limits.Limits(rate=10, unfinished=100, stored=100)
    job = job_of(60)
    assert queue.submit(job, request_hash="", cost=Cost(60, 50), limits=limit) is True
    client.delete(f"rq:job:{job.id}")
    for more, reached in ((Cost(101, 10), "unfinished"), (Cost(1, 90), "stored")):
        refusal = queue.submit(job, request_hash="", cost=more, limits=limit)
        assert isinstance(refusal, limits.Refusal)
        assert refusal.limit == reached
    assert queue.submit(job, request_hash="", cost=Cost(40, 40), limits=limit) is True
    used = queue.usage("alice", limit)
    assert used.unfinished == 40
    assert used.balance == pytest.approx(500, abs=5)
    assert used.room == pytest.approx(10, abs=1)


def test_uploads_count_as_stored(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    noise = Image.frombytes("RGB", (16, 16), random.Random(0).randbytes(16 * 16 * 3))
    with running(settings(redis_url, models_dir, tmp_path, "stored=900000")) as api:
        plain, noisy = (
            api.post("/denoise?sigma=20&dry_run=true", files={"image": sent}, headers=ALICE).json()["stored_bytes"]
            for sent in (black_png(16, 16), saved(noise, "PNG"))
        )
    assert noisy - plain == pytest.approx(3 * 16 * 16, rel=0.2)


def test_a_request_that_the_store_refuses_costs_nothing(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "uploads").write_text("not a folder")  # other files can be written
    limited, limit = settings(redis_url, models_dir, tmp_path, "rate=10 unfinished=100"), limits.Limits(rate=10)
    with running(limited) as api, redis.Redis.from_url(redis_url) as client:
        for key in ({}, {"Idempotency-Key": '"same"'}, {"Idempotency-Key": '"same"'}):
            headers = {**ASYNC, **ALICE, **key}
            answer = api.post("/denoise?sigma=20", files={"image": black_png(16, 16)}, headers=headers)
            assert answer.status_code == 503
            assert JobQueue(client, result_ttl=60).usage("alice", limit) == limits.Usage(0, balance=600)
        assert not client.exists(keys.account("alice"), keys.shares("alice")), "it was never charged"
