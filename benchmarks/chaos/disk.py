"""The store's file system, which can be full or read-only for a while.

It is a small file system in memory that only the processes of this run see: `enter_namespace` gives the run its own
list of mounts, without root where the system has user namespaces. Elsewhere the faults of the store are left out.
"""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.report import say

SIZE_MB = 64
MARK = "DIFUSO_CHAOS_NAMESPACE"  # set once this process has its own mounts
BALLAST = "ballast"
BUSY_SECONDS = 5.0  # files that are being written keep a disk from becoming read-only


class SmallDisk:
    """A tmpfs that is mounted at a folder.

    Attributes:
        store: the store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._mount = folder
        self.store = folder / "store"

    def fill(self) -> None:
        """Leaves no byte free; again, once ended jobs have freed some."""
        block = bytes(65536)
        with suppress(OSError), (self._mount / BALLAST).open("ab", buffering=0) as ballast:
            while ballast.write(block):
                pass

    def free(self) -> None:
        """Undoes `fill`."""
        (self._mount / BALLAST).unlink(missing_ok=True)

    def protect(self) -> None:
        """Makes the disk read-only."""
        deadline = time.monotonic() + BUSY_SECONDS
        while not self._remount("ro"):
            if time.monotonic() > deadline:
                say("the disk was too busy to become read-only: this fault did not come about")
                return
            time.sleep(0.02)

    def unprotect(self) -> None:
        """Undoes `protect`."""
        if not self._remount("rw"):
            raise OSError(errno.EROFS, f"{self._mount} stays read-only")

    def _remount(self, how: str) -> bool:
        command = ["mount", "-o", f"remount,{how}", str(self._mount)]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@contextmanager
def open_disk(folder: Path) -> Iterator[SmallDisk]:
    """Yields a disk at a new folder, which is a plain folder for a process without mounts of its own."""
    folder.mkdir()
    if not has_namespace():
        yield SmallDisk(folder)
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "difuso-chaos", str(folder)]
    subprocess.run(mount, check=True, timeout=30)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, timeout=30)


def has_namespace() -> bool:
    """Returns whether this process has mounts of its own."""
    return MARK in os.environ


def enter_namespace() -> None:
    """Starts this program anew with its own mounts, if possible; they end with it."""
    unshare = shutil.which("unshare")
    if has_namespace() or unshare is None:
        return
    ways = [["--mount"], ["--user", "--map-root-user", "--mount"]]
    for way in ways if os.geteuid() == 0 else ways[1:]:
        probe = [unshare, *way, "mount", "-t", "tmpfs", "difuso-chaos", "/tmp"]
        if subprocess.run(probe, capture_output=True, timeout=30).returncode == 0:
            again = [unshare, *way, sys.executable, "-m", "benchmarks.chaos", *sys.argv[1:]]
            os.execve(unshare, again, {**os.environ, MARK: "1"})
