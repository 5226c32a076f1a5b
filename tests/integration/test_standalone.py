"""`difuso serve` as its user meets it: a separate process, real signals, real pictures."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis

from benchmarks.stack import free_port
from difuso.supervisor.child_processes import PREFIX
from tests.forking import Command
from tests.serving import Difuso, executed, running
from tests.waiting import wait_until


def members(group: int) -> list[str]:
    """Command lines of the processes in a group; what has ended and only waits to be reaped does not count."""
    rows = subprocess.run(["ps", "-Aww", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    fields = [row.split(maxsplit=2) for row in rows.splitlines()]
    return [args for pgid, stat, args in fields if int(pgid) == group and not stat.startswith("Z")]


def socket_folder(group: int) -> Path:
    """The argument of the orphan killer."""
    return Path(next(args for args in members(group) if "child_processes" in args).split()[-1])


@pytest.mark.usefixtures("redis_server")
class TestServe:
    def test_pictures_then_dead_children_then_ctrl_c(self, tmp_path: Path, environment: dict[str, str]) -> None:
        """One run from start to end: it makes pictures, mends itself, and leaves nothing behind."""
        with running(tmp_path, environment) as difuso:
            assert difuso.picture().headers["content-type"] == "image/png"

            for name in ("worker", "redis", "api"):
                dead = difuso.pid(name)
                os.kill(dead, signal.SIGKILL)
                wait_until(restarted(difuso, name, dead), timeout=20, description=f"a new {name} was started")
            wait_until(lambda: answers(difuso), timeout=20, description="the new API answers")
            assert difuso.picture().headers["content-type"] == "image/png"

            group = os.getpgid(difuso.pid("redis"))
            folder = socket_folder(group)
            assert folder.name.startswith(PREFIX)
            difuso.process.send_signal(signal.SIGINT)
            assert difuso.process.wait(20) == 0
            assert members(group) == []
            assert not folder.exists()
            stops = re.findall(r"stopping (\w+)", difuso.output)
            assert stops == ["worker", "api", "redis"], "nobody waits for Redis after it is gone"
            assert difuso.output.index("stopping api") < difuso.output.index("drained after"), "at the same time"

    @pytest.mark.slow
    def test_sigterm_during_the_start(self, tmp_path: Path, environment: dict[str, str]) -> None:
        with running(tmp_path, environment, ready=False, start=executed) as difuso:
            wait_until(lambda: "started worker" in difuso.output, timeout=20, description="the worker is starting")
            group = os.getpgid(difuso.pid("worker"))
            difuso.process.terminate()
            assert difuso.process.wait(20) == 0
            assert members(group) == []

    @pytest.mark.slow
    def test_kill_9_leaves_nothing_and_the_next_run_starts(self, tmp_path: Path, environment: dict[str, str]) -> None:
        with running(tmp_path, environment, start=executed) as difuso:
            group = os.getpgid(difuso.pid("redis"))
            folder = socket_folder(group)
            difuso.process.kill()
            difuso.process.wait()
            wait_until(lambda: members(group) == [], timeout=10, description="all its processes are gone")
            assert not folder.exists()
        with running(tmp_path, environment, start=executed) as difuso:
            assert difuso.picture().status_code == 200


def test_a_redis_of_ones_own_is_used(tmp_path: Path, environment: dict[str, str], redis_url: str) -> None:
    password = tmp_path / "password"
    password.write_text("s/e:c@ret\n")
    environment |= {
        "REDIS_URL": redis_url.replace("://", "://guest@"),
        "DIFUSO_REDIS_PASSWORD_FILE": str(password),
    }
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL SETUSER guest on >s/e:c@ret ~* &* +@all")
        try:
            with running(tmp_path, environment) as difuso:
                assert "started redis" not in difuso.output
                assert difuso.picture().status_code == 200
        finally:
            client.execute_command("ACL DELUSER guest")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server on the PATH")
def test_jobs_of_the_bundled_valkey_are_there_after_redis_was_installed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()

    def install(name: str) -> None:
        (programs / name).symlink_to(str(shutil.which(name)))

    install("nice")
    environment |= {"PATH": str(programs)}
    with running(tmp_path, environment) as difuso:
        drawn = difuso.picture()
    install("redis-server")
    with running(tmp_path, environment) as difuso:
        (job,) = httpx.get(f"{difuso.url}/jobs").json()["jobs"]
        assert httpx.get(f"{difuso.url}/jobs/{job['id']}/image").content == drawn.content
        assert "started redis" in difuso.output


def test_a_taken_port_is_reported_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = refused(tmp_path, environment, "--port", str(port))
    assert f"cannot listen on 127.0.0.1 port {port}" in answer


def test_a_redis_url_that_does_not_answer_is_reported_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    environment |= {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "DIFUSO_PORT": str(free_port())}
    assert "the Redis of REDIS_URL does not answer" in refused(tmp_path, environment)


def test_workers_without_cores_are_reported_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    environment |= {"DIFUSO_PORT": str(free_port()), "DIFUSO_DEVICE": "cpu"}
    answer = refused(tmp_path, environment, "--workers", "100000")
    assert "100000 workers need 100000 cores, 1 for each, and there are " in answer


def test_a_folder_without_models_is_reported_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    environment |= {"DIFUSO_PORT": str(free_port())}
    assert f"no model in {tmp_path}." in refused(tmp_path, environment, "--models-dir", ".")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DIFUSO_PORT", "http", "DIFUSO_PORT: "),
        ("DIFUSO_WORKERS", "many", "DIFUSO_WORKERS must be auto or"),
        ("DIFUSO_DEVICE", "foo", "DIFUSO_DEVICE: must be auto, cpu, mps, cuda or cuda:N, not 'foo'"),
        pytest.param("DIFUSO_DEVICE", "cuda:99", "DIFUSO_DEVICE is cuda:99, and torch ", marks=pytest.mark.slow),
        ("DIFUSO_STORE_URL", __file__, "test_standalone.py, which cannot be written: Not a directory"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, environment: dict[str, str], variable: str, value: str, message: str
) -> None:
    environment |= {"DIFUSO_PORT": str(free_port()), variable: value}
    assert message in refused(tmp_path, environment)


def refused(folder: Path, environment: dict[str, str], *options: str) -> str:
    """The one line that `difuso serve` says before it gives up with exit code 1."""
    command = Command(["serve", *options], environment=environment, folder=folder, log=folder / "said")
    assert command.wait(20) == 1
    said = (folder / "said").read_text()
    assert len(said.splitlines()) == 1, said
    return said


def restarted(difuso: Difuso, name: str, dead: int) -> Callable[[], bool]:
    return lambda: difuso.pid(name) != dead


def answers(difuso: Difuso) -> bool:
    try:
        return httpx.get(f"{difuso.url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
