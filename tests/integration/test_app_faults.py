"""Redis away, a store that cannot be written, and the end of the process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from difuso.app.settings import ApiSettings
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer
from tests.app_server import ALICE, BOB, FakeWorker, keys_file, running
from tests.forking import Command
from tests.serving import ENVIRONMENT, free_port
from tests.waiting import WaitUntil, wait_until

ASYNC = {"Prefer": "respond-async"}
BEGUN = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\nabc"


@pytest.fixture
def own_redis(redis_url: str, tmp_path: Path) -> Iterator[tuple[RedisServer, subprocess.Popen[bytes]]]:
    """A Redis that the test may mistreat; `redis_url` skips where there is none."""
    with ChildProcesses() as children, closing(RedisServer(children, tmp_path / "redis")) as server:
        yield server, server.start()


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


def test_a_frozen_redis_is_noticed_and_forgiven(
    own_redis: tuple[RedisServer, subprocess.Popen[bytes]], models_dir: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    server, process = own_redis
    settings = ApiSettings(redis_url=server.url, models_dir=models_dir, store_url=str(tmp_path / "store"))
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
    own_redis: tuple[RedisServer, subprocess.Popen[bytes]], models_dir: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    server, process = own_redis
    settings = ApiSettings(redis_url=server.url, models_dir=models_dir, store_url=str(tmp_path / "store"))
    with running(settings) as api, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.post, "/generate", headers={"Prefer": "wait=5", "Idempotency-Key": "k"})
        wait_until(lambda: 'model="tiny"} 1.0' in api.get("/metrics").text, timeout=10, description="it is accepted")
        process.kill()
        process.wait()
        must_say_unavailable(api)
        process = server.start()
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
    own_redis: tuple[RedisServer, subprocess.Popen[bytes]],
    models_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[redis.Redis, Path], None],
) -> None:
    """Also where a script writes, as for the limits of a key."""
    server, _ = own_redis
    keys = keys_file(tmp_path, "rate=100 unfinished=1000 stored=10000000")
    store = str(tmp_path / "store")
    settings = ApiSettings(redis_url=server.url, models_dir=models_dir, store_url=store, api_keys_file=keys)
    with running(settings) as api, redis.Redis.from_url(server.url) as client:
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
    own_redis: tuple[RedisServer, subprocess.Popen[bytes]], models_dir: Path, tmp_path: Path
) -> None:
    """By their owner, and as long as they are there. What only Redis knows has to wait."""
    server, process = own_redis
    settings = ApiSettings(
        redis_url=server.url,
        models_dir=models_dir,
        store_url=str(tmp_path / "store"),
        api_keys_file=keys_file(tmp_path),
    )
    with running(settings) as api:
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
        assert api.get(f"{done}/images/0/film", headers=ALICE).status_code == 404, "this one has none"
        assert api.get(done, headers=ALICE).status_code == 503
        assert api.get("/jobs/no-id/images/0", headers=ALICE).status_code == 404


def test_images_expire_while_redis_is_away(
    own_redis: tuple[RedisServer, subprocess.Popen[bytes]], models_dir: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    server, process = own_redis
    settings = ApiSettings(redis_url=server.url, models_dir=models_dir, store_url=str(tmp_path / "store"), result_ttl=1)
    with running(settings) as api:
        worker = FakeWorker(settings)
        job = api.post("/generate", headers=ASYNC).json()["links"]["self"]
        worker.succeed(job.removeprefix("/jobs/"))
        worker.client.close()
        process.kill()
        process.wait()
        wait_until(lambda: api.get(f"{job}/images/0").status_code == 410, 10, "its time is over")
        assert api.get(f"{job}/image").json()["type"] == "/problems/result-expired"


def test_a_store_that_cannot_be_written_takes_no_job(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"))
    with running(settings) as api:
        for path in ("/generate", "/generate?dry_run=true"):
            response = api.post(path, headers=ASYNC)
            assert (response.status_code, response.json()["type"]) == (503, "/problems/store-unavailable")
            assert int(response.headers["Retry-After"]) > 0
            assert str(tmp_path) not in response.text
        assert api.get("/readyz").status_code == 200
        assert api.get("/readyz?verbose").json()["store"] == "away"
        assert "difuso_store_ok 0.0" in api.get("/metrics").text


@contextmanager
def api_process(
    redis_url: str, models_dir: Path, tmp_path: Path, wait_until: WaitUntil
) -> Iterator[tuple[Command, httpx.Client]]:
    port = free_port()
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "DIFUSO_PORT": str(port),
        "DIFUSO_MODELS_DIR": str(models_dir),
        "DIFUSO_STORE_URL": str(tmp_path / "store"),
    }
    process = Command(["api"], environment=environment, folder=tmp_path)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until(lambda: answers(client), timeout=30, description="the API process answers")
            yield process, client
    finally:
        process.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_the_process_ends_without_cutting_anybody_off(
    redis_url: str, models_dir: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    with api_process(redis_url, models_dir, tmp_path, wait_until) as (process, client), ThreadPoolExecutor(2) as pool:
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


@pytest.mark.parametrize(
    "place", [pytest.param("difuso.app.main.create_app", marks=pytest.mark.slow), "uvicorn.Server.run"]
)
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


def test_a_client_that_dawdles_is_cut_off(
    redis_url: str, models_dir: Path, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difuso.app.http import protocol

    monkeypatch.setattr(protocol, "RECEIVE_SECONDS", 0.2)
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"))
    with running(settings) as api:
        for start in (b"", b"GET /healthz HT", BEGUN):
            with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=5) as dawdler:
                dawdler.sendall(start)
                assert dawdler.recv(1) == b""
        monkeypatch.undo()  # a busy machine may need longer for a request, too
        assert api.get("/healthz").status_code == 200


def test_a_client_that_does_not_read_its_answers_is_cut_off(
    redis_url: str, models_dir: Path, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difuso.app.http import protocol

    cut: list[object] = []
    lose = protocol.DeadlineProtocol.connection_lost

    def note(connection: protocol.DeadlineProtocol, error: Exception | None) -> None:
        cut.append(connection)
        lose(connection, error)

    monkeypatch.setattr(protocol, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(protocol.DeadlineProtocol, "connection_lost", note)
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"))
    with running(settings) as api, socket.socket() as dawdler:
        dawdler.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dawdler.connect((api.base_url.host, api.base_url.port or 80))
        dawdler.sendall(60 * b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: cut, timeout=10, description="the connection is gone")
        assert api.get("/healthz").status_code == 200


@pytest.mark.long
def test_a_client_that_reads_slowly_gets_all_of_its_answer(
    redis_url: str, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difuso.app.http import protocol

    monkeypatch.setattr(protocol, "SEND_SECONDS", 0.4)
    monkeypatch.setattr(protocol, "SEND_BYTES", 1)
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"))
    with running(settings) as api, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((api.base_url.host, api.base_url.port or 80))
        # Less than the 4 MB that Linux buffers: it calls a sender only when a third of a full buffer is free again.
        reader.sendall(40 * b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        started, received = time.monotonic(), b""
        while received.count(b"HTTP/1.1 200") < 40 or not received.endswith(b"}"):
            read = reader.recv(65536)
            assert read
            received += read
        assert time.monotonic() - started > protocol.SEND_SECONDS  # so it was looked at
