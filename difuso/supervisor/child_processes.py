"""Child processes that cannot outlive this one, however it ends.

All children join one process group. Its leader, a small process called the orphan killer, reads a pipe whose other end
only this process holds: when this process is gone, even by kill -9, the pipe closes and the orphan killer ends the
group. This works for every program and on every POSIX system, and no child is ever outside the group.

The group also keeps the terminal's Ctrl-C away from the children, so that they can be stopped in order.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

# Not the user's own temporary folder: on macOS that is 50 characters long, and a socket's path may have 104 in all.
TEMPORARY = "/tmp"
PREFIX = "difuso-"
DIFUSO = (sys.executable, "-P", "-m", "difuso")  # -P: never import from the working directory
GRACE_SECONDS = 3.0  # for children whose parent is gone


class ChildProcesses:
    """A context manager: children are spawned inside it, and none is left after it.

    Its folder is private (mode 0700), and is deleted at the end. It has a short path for the children's sockets, unless
    a parent is given.
    """

    def __init__(self, parent: Path = Path(TEMPORARY)) -> None:
        self._parent = parent.resolve()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
        self._lock = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)  # systemd-tmpfiles removes what is old, but not from such a folder
        command = [sys.executable, "-P", "-m", "difuso.supervisor.child_processes", str(self.folder)]
        self._killer = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
        self._children: list[subprocess.Popen[bytes]] = []
        return self

    def spawn(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        processors: Collection[int] = (),
        folder: Path | None = None,
        log: BinaryIO | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a child, in a folder or ours, bound to these processors or to ours.

        It reads nothing, and writes to our terminal, or all of it to a log.
        """
        with _bound_to(processors):
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=env,
                pass_fds=pass_fds,
                process_group=self._killer.pid,
            )
        self._children = [*(known for known in self._children if known.poll() is None), child]
        return child

    def __exit__(self, *error: object) -> None:
        os.killpg(self._killer.pid, signal.SIGKILL)
        for process in (*self._children, self._killer):
            process.communicate()  # reaps it and closes the pipe
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def _bound_to(processors: Collection[int]) -> Iterator[None]:
    """Binds this thread to processors for a moment; a child inherits them, as do all its threads."""
    if not processors or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def kill_orphans(folder: str) -> None:
    """Waits until standard input closes, which ends with the parent; then ends this process group, and the folder."""
    sys.stdin.buffer.read()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    kill_orphans(sys.argv[1])
