"""Redis away, a store that cannot be written, and the end of the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import redis

from benchmarks.stack import free_port
from difuso.app.settings import ApiSettings
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer
from tests.app_server import ALICE, BOB, FakeWorker, api_process, keys_file, running
from tests.serving import ENVIRONMENT
from tests.waiting import wait_until

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def own_redis(redis_url: str, tmp_path: Path) -> Iterator[RedisServer]:
    """Starts a Redis that the test may mistreat; `redis_url` skips where there is none."""
    with ChildProcesses() as children, closing(RedisServer(children, tmp_path / "redis")) as server:
        yield server


@pytest.fixture
def process(own_redis: RedisServer) -> subprocess.Popen[bytes]:
    return own_redis.start()


@pytest.fixture
def settings(own_redis: RedisServer, models_dir: Path, tmp_path: Path) -> ApiSettings:
    return ApiSettings(redis_url=own_redis.url, models_dir=models_dir, store_url=str(tmp_path / "store"))


def must_say_unavailable(api: httpx.Client) -> None:
    for method, path in (
        ("POST", "/generate"),
        ("GET", "/jobs/00000000-0000-4000-8000-000000000000"),
        ("DELETE", "/jobs/00000000-0000-4000-8000-000000000000"),
        ("GET", "/models"),
    ):
        response = api.request(method, path)
        assert response.status_code == 503, path
        assert response.json()["type"] == "/problems/queue-unavailable"
        assert response.headers["Content-Type"] == "application/problem+json"
        assert int(response.headers["Retry-After"]) > 0
    for path in ("/healthz", "/readyz"):
        assert api.get(path).json() == {"status": "ok"}, "or all front ends would leave their balancer at once"
    assert api.get("/readyz?verbose").json() == {"status": "ok", "redis": "away", "store": "ok"}
    assert 'difuso_redis_errors_total{op="generate"} 1.0' in api.get("/metrics").text


def test_a_frozen_redis_is_noticed_and_forgiven(settings: ApiSettings, process: subprocess.Popen[bytes]) -> None:
    with running(settings) as api:
        accepted = api.post("/generate", headers=ASYNC)
        process.send_signal(signal.SIGSTOP)
        try:
            must_say_unavailable(api)
        finally:
            process.send_signal(signal.SIGCONT)
        job = accepted.headers["Location"]
        wait_until(lambda: api.get(job).status_code == 200, timeout=5, description="Redis is asked again")
        assert api.get(job).json()["state"] == "queued"
        known = {"status": "ok", "redis": "ok", "store": "ok", "workers": 0, "models": []}
        assert api.get("/readyz?verbose").json() == known


@pytest.mark.slow
def test_a_wait_outlives_a_redis_that_dies_and_comes_back(
    settings: ApiSettings, own_redis: RedisServer, process: subprocess.Popen[bytes]
) -> None:
    with running(settings) as api, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.post, "/generate", headers={"Prefer": "wait=5", "Idempotency-Key": "k"})
        wait_until(lambda: 'model="tiny"} 1.0' in api.get("/metrics").text, timeout=10, description="it is accepted")
        process.kill()
        process.wait()
        must_say_unavailable(api)
        own_redis.start()
        response = answer.result()
        assert response.status_code == 202
        assert api.get(response.headers["Location"]).json()["state"] == "queued"


def fill_memory(client: redis.Redis, folder: Path) -> None:
    client.config_set("maxmemory", 1)


def become_a_replica(client: redis.Redis, folder: Path) -> None:
    client.replicaof("127.0.0.1", free_port())


def lose_replicas(client: redis.Redis, folder: Path) -> None:
    client.config_set("min-replicas-to-write", 1)


def break_disk(client: redis.Redis, folder: Path) -> None:
    """Puts something in the way of Redis' file."""
    name = client.config_get("dbfilename")["dbfilename"]
    (folder / str(name) / "in the way").mkdir(parents=True)
    client.config_set("save", "3600 1")
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "Redis cannot save")


def mend(client: redis.Redis) -> None:
    client.replicaof("NO", "ONE")
    for name, value in (("maxmemory", 0), ("min-replicas-to-write", 0), ("save", "")):
        client.config_set(name, value)


@pytest.mark.parametrize("refuse", [fill_memory, become_a_replica, lose_replicas, break_disk])
def test_a_redis_that_takes_no_writes_says_so(
    settings: ApiSettings,
    process: object,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[redis.Redis, Path], None],
) -> None:
    """Also where a script writes, as for the limits of a key."""
    keys = {"api_keys_file": keys_file(tmp_path, "rate=100 unfinished=1000 stored=10000000")}
    with running(settings.model_copy(update=keys)) as api, redis.Redis.from_url(settings.redis_url) as client:
        job = api.post("/generate", headers=ASYNC | BOB).headers["Location"]
        assert "difuso_redis_takes_writes 1.0" in api.get("/metrics", headers=BOB).text
        refuse(client, tmp_path / "redis")
        for method, path, caller in (
            ("POST", "/generate", ALICE),
            ("POST", "/generate", BOB),
            ("DELETE", job, BOB),
        ):
            answer = api.request(method, path, headers=caller)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/queue-full")
            assert int(answer.headers["Retry-After"]) > 0
        assert "Redis takes no writes" in caplog.text
        assert api.get(job, headers=BOB).json()["state"] == "queued", "it can be read"
        assert "difuso_redis_takes_writes 0.0" in api.get("/metrics", headers=BOB).text
        assert api.get("/readyz").status_code == 200
        assert api.get("/readyz?verbose").json() == {"status": "ok", "redis": "full", "store": "ok"}
        mend(client)
        for caller in (ALICE, BOB):
            assert api.post("/generate", headers=ASYNC | caller).status_code == 202
        assert api.get("/readyz?verbose").json() == {"status": "ok", "redis": "ok", "store": "ok"}


def test_finished_images_are_reached_while_redis_is_away(
    settings: ApiSettings, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """By their owner, and as long as they are there. What only Redis knows has to wait."""
    with running(settings.model_copy(update={"api_keys_file": keys_file(tmp_path)})) as api:
        worker = FakeWorker(settings)
        done, waiting, deleted = (
            api.post("/generate?n=2", headers=ASYNC | ALICE).json()["links"]["self"] for _ in range(3)
        )
        for job in (done, deleted):
            worker.succeed(job.removeprefix("/jobs/"))
        assert api.delete(f"{deleted}/images", headers=ALICE).status_code == 204
        formats = {"/images/0": "image/png", "/images/1": "image/png", "/image": "application/x-npz"}
        before = {path: api.get(done + path, headers=ALICE | {"Accept": kind}) for path, kind in formats.items()}
        signed = api.get(done, headers=ALICE).json()["links"]["signed"][0]
        worker.client.close()
        process.kill()
        process.wait()
        for path, kind in formats.items():
            answer = api.get(done + path, headers=ALICE | {"Accept": kind})
            assert (answer.status_code, answer.content) == (200, before[path].content)
            assert answer.headers["ETag"] == before[path].headers["ETag"]
            assert api.get(done + path, headers=BOB | {"Accept": kind}).status_code == 404
            for other in (waiting, deleted):
                answer = api.get(other + path, headers=ALICE | {"Accept": kind})
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/queue-unavailable")
                assert int(answer.headers["Retry-After"]) > 0
        assert api.get(signed).content == before["/images/0"].content
        assert api.get(f"{done}/images/2", headers=ALICE).status_code == 404
        assert api.get(f"{done}/images/0/film", headers=ALICE).json()["type"] == "/problems/no-film"
        assert api.get(done, headers=ALICE).status_code == 503
        assert api.get("/jobs/no-id/images/0", headers=ALICE).status_code == 404


def test_images_expire_while_redis_is_away(settings: ApiSettings, process: subprocess.Popen[bytes]) -> None:
    with running(settings.model_copy(update={"result_ttl": 1})) as api:
        worker = FakeWorker(settings)
        job = api.post("/generate", headers=ASYNC).json()["links"]["self"]
        worker.succeed(job.removeprefix("/jobs/"))
        worker.client.close()
        process.kill()
        process.wait()
        wait_until(lambda: api.get(f"{job}/images/0").status_code == 410, 10, "its time is over")
        assert api.get(f"{job}/image").json()["type"] == "/problems/result-expired"


def test_a_store_that_cannot_be_written_takes_no_job(settings: ApiSettings, process: object, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with running(settings) as api:
        for path in ("/generate", "/generate?dry_run=true"):
            response = api.post(path, headers=ASYNC)
            assert (response.status_code, response.json()["type"]) == (503, "/problems/store-unavailable")
            assert int(response.headers["Retry-After"]) > 0
            assert str(tmp_path) not in response.text
        assert api.get("/readyz").status_code == 200
        assert api.get("/readyz?verbose").json()["store"] == "away"
        assert "difuso_store_ok 0.0" in api.get("/metrics").text


def test_the_process_ends_without_cutting_anybody_off(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    with api_process(redis_url, models_dir, tmp_path) as (process, client), ThreadPoolExecutor(2) as pool:
        job = client.post("/generate", headers=ASYNC).json()
        waiting = pool.submit(client.post, "/generate", headers={"Accept": "image/png"})
        events = pool.submit(client.get, job["links"]["events"])
        wait_until(
            lambda: 'difuso_jobs_accepted_total{kind="generate",model="tiny"} 2.0' in client.get("/metrics").text,
            timeout=10,
            description="both jobs are accepted",
        )
        process.terminate()
        wait_until(
            lambda: client.get("/readyz").status_code == 503,
            timeout=10,
            description="the process is not ready any more",
        )
        response = waiting.result()
        assert response.status_code == 202
        assert response.headers["Location"].startswith("/jobs/")
        assert "event: progress" in events.result().text
        assert process.wait(timeout=25) == 0


@pytest.mark.slow
@pytest.mark.parametrize("place", ["difuso.app.main.create_app", "uvicorn.Server.run"])
def test_a_process_that_has_to_end_before_it_serves_ends_well(place: str, models_dir: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal
from unittest.mock import patch
import difuso.app.main, uvicorn
from difuso.__main__ import main

whole = {place}

def ended(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    return whole(*args, **kwargs)

with patch("{place}", ended):
    main()
"""
    environment = {**ENVIRONMENT, "DIFUSO_MODELS_DIR": str(models_dir), "DIFUSO_STORE_URL": str(tmp_path)}
    environment |= {"DIFUSO_PORT": str(free_port()), "REDIS_URL": f"unix://{tmp_path}/none"}
    assert subprocess.run([sys.executable, "-c", code, "api"], env=environment, timeout=40).returncode == 0
