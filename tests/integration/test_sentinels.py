"""A queue that fails over: Sentinels choose another Redis when the first dies, and no accepted job is lost."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from benchmarks.stack import free_port
from difuso.errors import UserError
from difuso.jobs.redis.addresses import connect
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import find_server
from tests.serving import executed, running
from tests.waiting import wait_until

QUORUM, DOWN_MS = 2, 1000
SENTINEL = """port {port}
dir {folder}
sentinel monitor queue 127.0.0.1 {master} {quorum}
sentinel down-after-milliseconds queue {down}
sentinel failover-timeout queue 5000
"""


class Watched:
    """Two servers, of which the second follows the first, and three Sentinels."""

    def __init__(self, children: ChildProcesses, folder: Path) -> None:
        self._children, self._folder, self._program = children, folder, find_server()
        self.ports = free_port(), free_port()
        sentinels = [free_port() for _ in range(3)]
        self.url = f"sentinel://{','.join(f'127.0.0.1:{port}' for port in sentinels)}/queue/0"
        self.servers = [self.start(0), self.start(1)]
        for port in sentinels:
            config = folder / f"{port}.conf"
            config.write_text(
                SENTINEL.format(port=port, folder=folder, master=self.ports[0], quorum=QUORUM, down=DOWN_MS)
            )
            self._spawn(str(config), "--sentinel")
        for port in sentinels:
            with redis.Redis(port=port) as sentinel:
                wait_until(lambda: _knows_all(sentinel), timeout=20, description="the Sentinels know each other")

    def start(self, index: int) -> subprocess.Popen[bytes]:
        """Starts one of the servers, the first as the one that is followed."""
        port, first = self.ports[index], self.ports[0]
        follow = [] if index == 0 else ["--replicaof", f"127.0.0.1 {first}"]
        (self._folder / str(port)).mkdir()
        folder = str(self._folder / str(port))
        at_once = ["--repl-diskless-sync-delay", "0"]  # by default the second server begins to follow after 5 s
        return self._spawn("--port", str(port), "--dir", folder, "--save", "", *at_once, *follow)

    def _spawn(self, *options: str) -> subprocess.Popen[bytes]:
        return self._children.spawn([str(self._program), *options])


def _knows_all(sentinel: redis.Redis) -> bool:
    with suppress(redis.RedisError):
        state: Any = sentinel.sentinel_master("queue")
        return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1
    return False


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with ChildProcesses() as children:
        try:
            yield Watched(children, tmp_path)
        except UserError as error:
            pytest.skip(str(error))


@contextmanager
def closed(client: redis.Redis) -> Iterator[redis.Redis]:
    """Closes a client in the end, and its connections to Sentinels."""
    with client:
        yield client
    pool: Any = client.connection_pool
    pool.sentinel_manager.close()


@contextmanager
def in_background(url: str) -> Iterator[list[httpx.Response]]:
    """Sends a request that waits for its picture; its answer is there when the block has ended."""
    answers: list[httpx.Response] = []
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(httpx.post, url, timeout=90)
        yield answers
        answers.append(sent.result())


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.long)])
def test_when_the_first_redis_is_gone_every_accepted_job_ends_and_new_ones_are_taken(
    watched: Watched, tmp_path: Path, environment: dict[str, str], how: signal.Signals
) -> None:
    environment = {**environment, "REDIS_URL": watched.url}
    with running(tmp_path, environment, start=executed) as difuso:
        post = f"{difuso.url}/generate?steps=300&sampler=ddpm"
        with in_background(f"{post}&seed=1") as waited:
            headers = {"Prefer": "respond-async"}
            jobs = [httpx.post(f"{post}&seed={seed}", headers=headers).headers["location"] for seed in range(2, 8)]
            with closed(connect(watched.url)) as client:
                client.set("after", "all")  # WAIT is only for what its own connection has written
                assert client.wait(1, 10_000) == 1, "the second server has what was accepted"
            watched.servers[0].send_signal(how)

        def states() -> set[str]:
            answers = [httpx.get(f"{difuso.url}{job}", timeout=30) for job in jobs]
            assert all(each.is_success for each in answers), [each.text for each in answers]
            return {each.json()["state"] for each in answers}

        def is_up() -> bool:
            return httpx.get(f"{difuso.url}/readyz?verbose", timeout=30).is_success

        wait_until(is_up, timeout=60, description="the second Redis answers")
        wait_until(lambda: states() == {"succeeded"}, timeout=90, description="all accepted jobs are done")
        assert waited[0].status_code == 200, waited[0].text
        assert httpx.post(f"{difuso.url}/generate?steps=2&seed=9", timeout=60).status_code == 200
        with closed(connect(watched.url)) as client:
            assert client.info("server")["tcp_port"] == watched.ports[1]
        if how is signal.SIGSTOP:  # what comes back follows, and nobody writes to it any more
            watched.servers[0].send_signal(signal.SIGCONT)
            with redis.Redis(port=watched.ports[0]) as first:
                wait_until(lambda: first.info("replication")["role"] == "slave", 30, "the first server follows")
            assert httpx.post(f"{difuso.url}/generate?steps=2&seed=10", timeout=60).status_code == 200
