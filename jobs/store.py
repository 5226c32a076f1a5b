"""The result store: pictures, manifests and trajectory snapshots, addressed by an fsspec URL.

    results/<aa>/<job id>/<attempt>/<index>.png      written by one attempt
    results/<aa>/<job id>/manifest.json              the commit point, first writer wins
    snapshots/<aa>/<job id>                          where a paused or killed job goes on
    uploads/<aa>/<job id>/<sha256>.png               pictures that came with the request

A job whose worker was thought dead may be finished twice. Each attempt writes below its own name and only one manifest
is ever linked, so there is one result and never half of one.

Uploads are written before their job is accepted, and two requests with one Idempotency-Key are one job id. So an upload
is named by what it holds: the request that is refused cannot replace what the accepted one needs.

A disk or bucket may hang instead of failing. So each call has its time, after which the store counts as unavailable;
what was to be written may be there all the same, a moment later.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.config import conf
from fsspec.implementations.local import LocalFileSystem

from .contract import Manifest
from .errors import ResultExpired, StoreUnavailable
from .hanging_calls import HangingCalls

PICTURE_SECONDS = 10.0
SNAPSHOT_SECONDS = 60.0  # those of large models have a hundred megabytes
CHECK_SECONDS = 1.5
CALLS = 32
# By itself botocore tries four times more and waits a minute each time, and s3fs repeats all of that.
S3_TIMEOUTS = {"config_kwargs": {"connect_timeout": 3, "read_timeout": 10, "retries": {"max_attempts": 0}}}
CHECK = re.compile(r"\.{1,2}check-")  # its file and, with a dot more, the one that this is written as


class ResultStore:
    """Reads and writes below one folder or bucket prefix.

    Args:
        url: `file:///var/lib/difuso`, a plain path, or any other fsspec URL such as `s3://bucket/prefix`.
    """

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.url_to_fs(url, **_options(url))
        self._root = PurePosixPath(root)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._calls = HangingCalls(CALLS)

    def write_image(self, job_id: str, attempt: str, index: int, png: bytes) -> str:
        """Stores one picture of one attempt; returns its path for the manifest."""
        name = f"{attempt}/{index}.png"
        self._write(self._result(job_id) / name, png)
        return name

    def commit(self, manifest: Manifest) -> bool:
        """Makes an attempt the job's result. False if another attempt was first; its pictures stand."""
        data = manifest.model_dump_json().encode()
        path = self._result(manifest.job.id) / "manifest.json"
        with _writing():
            return self._calls.call(lambda: self._create(path, data), PICTURE_SECONDS)

    def manifest(self, job_id: str) -> Manifest | None:
        """The job's result, None while there is none."""
        data = self._read(self._result(job_id) / "manifest.json")
        return None if data is None else Manifest.model_validate_json(data)

    def image(self, manifest: Manifest, index: int) -> bytes:
        """One picture, as PNG.

        Raises:
            ResultExpired: if it was deleted.
        """
        data = self._read(self._result(manifest.job.id) / manifest.images[index].path)
        if data is None:
            raise ResultExpired
        return data

    def write_upload(self, job_id: str, png: bytes) -> None:
        """Stores a picture that came with a request."""
        self._write(self._upload(job_id, hashlib.sha256(png).hexdigest()), png)

    def upload(self, job_id: str, sha256: str) -> bytes | None:
        """A picture that came with the request, None if it is not there any more."""
        return self._read(self._upload(job_id, sha256))

    def save_snapshot(self, job_id: str, data: bytes) -> None:
        """Replaces the job's snapshot."""
        self._write(self._snapshot(job_id), data, SNAPSHOT_SECONDS)

    def snapshot(self, job_id: str) -> bytes | None:
        """The job's last snapshot, None if there is none."""
        return self._read(self._snapshot(job_id), SNAPSHOT_SECONDS)

    def drop_snapshot(self, job_id: str) -> None:
        """Forgets the job's snapshot; there need not be one."""
        with _translated(), suppress(FileNotFoundError):
            self._calls.call(lambda: self._fs.rm_file(str(self._snapshot(job_id))), PICTURE_SECONDS)

    def check(self) -> None:
        """Writes and deletes a small file.

        Raises:
            StoreUnavailable: if that fails or takes long.
        """
        path = self._root / f".check-{uuid.uuid4().hex}"

        def write_and_delete() -> None:  # as one call, so that nothing is left of one that took too long
            self._put(path, b"ok")
            self._fs.rm_file(str(path))

        with _writing():
            self._calls.call(write_and_delete, CHECK_SECONDS)

    def space(self) -> tuple[int, int] | None:
        """Bytes free and in all of the disk with the store; None if that is no disk of this machine.

        Raises:
            StoreUnavailable: if the disk does not say.
        """
        if not self._local:
            return None
        root = Path(self._root)  # which the first write will make

        def usage() -> tuple[int, int]:
            there = next(folder for folder in (root, *root.parents) if folder.exists())
            found = shutil.disk_usage(there)
            return found.free, found.total

        with _translated():
            return self._calls.call(usage, CHECK_SECONDS)

    def sweep(self, max_age: float, *, needed: Callable[[str], bool] = lambda job_id: False) -> int:
        """Deletes what was written more than `max_age` seconds ago; returns the number of files.

        It takes as long as it takes: there may be a great many files.

        Args:
            needed: whether the uploads of a job are to stay; asked for old ones only.
        """
        oldest, deleted = time.time() - max_age, 0
        self._fs.invalidate_cache()
        for kind in ("results", "snapshots", "uploads"):
            with _translated():
                found: list[str] = self._fs.find(str(self._root / kind))
            for path in found:
                if not self._is_older(path, oldest) or (kind == "uploads" and needed(_job(path))):
                    continue
                with _translated(), suppress(FileNotFoundError):  # several workers may sweep at once
                    self._fs.rm_file(path)
                    deleted += 1
                    if self._local:
                        _prune(Path(path).parent, Path(self._root / kind))
        return deleted + self._sweep_checks(oldest)

    def _sweep_checks(self, oldest: float) -> int:
        """Deletes what is left of checks that were cut short; nothing else that lies beside our folders."""
        deleted = 0
        with _translated(), suppress(FileNotFoundError):
            for path in self._fs.ls(str(self._root), detail=False):
                if CHECK.match(PurePosixPath(path).name) and self._is_older(path, oldest):
                    self._fs.rm_file(path)
                    deleted += 1
        return deleted

    def _is_older(self, path: str, oldest: float) -> bool:
        with _translated(), suppress(FileNotFoundError):
            written: float = self._fs.modified(path).timestamp()
            return written < oldest
        return False

    def _result(self, job_id: str) -> PurePosixPath:
        return self._root / "results" / job_id[:2] / job_id

    def _upload(self, job_id: str, sha256: str) -> PurePosixPath:
        return self._root / "uploads" / job_id[:2] / job_id / f"{sha256}.png"

    def _snapshot(self, job_id: str) -> PurePosixPath:
        return self._root / "snapshots" / job_id[:2] / job_id

    def _read(self, path: PurePosixPath, seconds: float = PICTURE_SECONDS) -> bytes | None:
        with _translated(), suppress(FileNotFoundError):
            return self._calls.call(lambda: self._get(path), seconds)
        return None

    def _write(self, path: PurePosixPath, data: bytes, seconds: float = PICTURE_SECONDS) -> None:
        with _writing():
            self._calls.call(lambda: self._put(path, data), seconds)

    # What may hang.

    def _get(self, path: PurePosixPath) -> bytes:
        if self._local:
            return _read_file(path)
        data: bytes = self._fs.cat_file(str(path))
        return data

    def _put(self, path: PurePosixPath, data: bytes) -> None:
        if not self._local:
            self._fs.pipe_file(str(path), data)
            return
        with _temporary(Path(path), data, top=Path(self._root)) as temporary:
            temporary.replace(path)

    def _create(self, path: PurePosixPath, data: bytes) -> bool:
        """Writes a file that is not there yet; False if it is."""
        if self._local:
            with _temporary(Path(path), data, top=Path(self._root)) as temporary, suppress(FileExistsError):
                os.link(temporary, path)
                return True
            return False
        try:
            self._fs.pipe_file(str(path), data, mode="create")  # in S3 a PUT with If-None-Match: *
        except Exception:
            # Servers differ in how they refuse, and the reply to a PUT that went through may be lost: what is there
            # stands.
            with suppress(FileNotFoundError):
                self._get(path)
                return False
            raise
        return True


def _options(url: str) -> dict[str, Any]:
    """Of the filesystem; what the operator has set for fsspec stands."""
    return S3_TIMEOUTS | conf.get("s3", {}) if url.startswith("s3://") else {}


def _job(upload: str) -> str:
    """The id of the job that an upload came with."""
    return PurePosixPath(upload).parent.name


@contextmanager
def _writing() -> Iterator[None]:
    """Like `_translated`; whoever writes and finds nothing misses the folder or bucket itself."""
    try:
        with _translated():
            yield
    except FileNotFoundError as error:
        raise StoreUnavailable from error


@contextmanager
def _translated() -> Iterator[None]:
    """Each filesystem has errors of its own; only the absence of a file means the same everywhere."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StoreUnavailable from error


def _read_file(path: PurePosixPath) -> bytes:
    """A file, and nothing else that has a name: a pipe would keep its reader for ever."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        return file.read()


@contextmanager
def _temporary(path: Path, data: bytes, *, top: Path) -> Iterator[Path]:
    """A complete file beside `path`, on the disk before it gets its name; nothing below `top` is left if that fails."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        _prune(path.parent, top)


def _prune(folder: Path, top: Path) -> None:
    """Removes folders that are empty, up to `top`."""
    while folder != top:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass  # a disk may be full before the last folder is made
        except OSError:
            return
        folder = folder.parent
