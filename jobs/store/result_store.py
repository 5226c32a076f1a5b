"""The result store: images, manifests, snapshots of trajectories and uploads, below an fsspec URL.

    results/<aa>/<job id>/<attempt>/<index>.png      the images of one attempt, if they are large
    results/<aa>/<job id>/<attempt>/trace.npz        the moments that one attempt kept, if its job asks for some
    results/<aa>/<job id>/<attempt>/films.npz        the films of its images, if they are large
    results/<aa>/<job id>/manifest.json              the commit point, with small images; the first writer wins
    snapshots/<aa>/<job id>                          the state from which another worker continues
    uploads/<aa>/<job id>/<sha256>                   the fitted files of the request
    checks/<id>                                      written and deleted at once, to see whether that works

A job may be finished twice, if its worker seemed dead but was not. Each attempt writes into its own folder, and only
one manifest is ever linked. So there is exactly one result, and it is complete.

Uploads are written before their job is accepted, and two requests with one Idempotency-Key have one job id. So an
upload is named by its content: a request that is refused cannot replace the uploads of the accepted one.

A disk or bucket may hang instead of failing. So each call has a time limit, after which the store counts as
unavailable. Such a write may still succeed later.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import PurePosixPath

from ..contract import Manifest
from ..errors import ResultExpired, StoreUnavailable
from ..images.npz import unpacked
from .blobs import Blobs
from .time_limited_calls import Result, TimeLimitedCalls

log = logging.getLogger(__name__)

KINDS = ("results", "snapshots", "uploads", "checks")  # the folders of a store
IMAGE_SECONDS = 10.0
LARGE_SECONDS = 60.0  # a snapshot of a large model has a hundred megabytes, and so may have a trace
CHECK_SECONDS = 2.5  # disks whose rate is limited stall for 2 s; the probe of deploy/base/api.yaml waits for 3 s
CHECKED = bytes(1 << 16)  # a few bytes may find room in a block that is not quite full
CALLS = 32
LOCAL_READERS = 4  # more read no faster from a disk, but make others wait for the GIL; a bucket takes its time
CLOCK_SECONDS = 10.0  # by which the clocks of machines may differ
OPERATIONS = ("read", "write", "delete", "check")

# Receives each operation, its seconds, and whether it failed.
Observe = Callable[[str, float, bool], None]


class ResultStore:
    """Reads and writes below one folder or bucket prefix. Its methods block, and raise StoreUnavailable.

    Args:
        url: a path, or an fsspec URL such as `file:///var/lib/difuso` or `s3://bucket/prefix`.
        observe: is called after each operation, in the thread that made it; sweeps are not observed.

    Attributes:
        is_local: whether it is a folder.
        readers: the number of threads beyond which reading is no faster.
    """

    def __init__(self, url: str, observe: Observe = lambda operation, seconds, failed: None) -> None:
        self._blobs = Blobs(url)
        self._observe = observe
        self.is_local = self._blobs.is_local
        self.readers = LOCAL_READERS if self.is_local else CALLS
        self._root = self._blobs.root
        self._calls = TimeLimitedCalls(CALLS)
        self._checks = TimeLimitedCalls(1)  # while one hangs, another would hang too, and cost one more thread

    def write_image(self, job_id: str, attempt: str, index: int, png: bytes) -> str:
        """Stores one image of one attempt; returns its path for the manifest."""
        name = f"{attempt}/{index}.png"
        self._write(self._result(job_id) / name, png)
        return name

    def write_arrays(self, job_id: str, attempt: str, name: str, npz: bytes) -> str:
        """Stores the `trace` or the `films` of one attempt; returns the path of their file for the manifest."""
        name = f"{attempt}/{name}.npz"
        self._write(self._result(job_id) / name, npz, LARGE_SECONDS)
        return name

    def commit_all(self, manifests: Sequence[Manifest]) -> list[bytes | None]:
        """Makes each attempt the result of its job, all synchronised together.

        Returns for each the file, or None if another attempt is the result already.

        The result of an earlier job of the same id is replaced: an Idempotency-Key may be used again once its job is
        forgotten, which may be before the job's result is swept.
        """
        files = {self._result(each.job.id) / "manifest.json": each.model_dump_json().encode() for each in manifests}

        def create_or_replace() -> set[PurePosixPath]:
            created = self._blobs.create(files)
            for (path, data), manifest in zip(files.items(), manifests, strict=True):
                if path not in created and self._is_of_earlier_job(path, manifest):
                    self._blobs.write(path, data)
                    created.add(path)
            return created

        stored = self._do("write", create_or_replace)
        return [data if path in stored else None for path, data in files.items()]

    def _is_of_earlier_job(self, path: PurePosixPath, manifest: Manifest) -> bool:
        with suppress(FileNotFoundError):  # swept at this moment
            return self._blobs.written_at(path) <= manifest.job.accepted_at - CLOCK_SECONDS
        return True

    def manifest(self, job_id: str) -> Manifest | None:
        """Returns the manifest of a job's result; None if there is no result, or if it was deleted."""
        data = self._read(self._result(job_id) / "manifest.json")
        return Manifest.read(data) if data else None

    def image(self, manifest: Manifest, index: int) -> bytes:
        """Returns one image as PNG; raises ResultExpired if it was deleted."""
        image = manifest.images[index]
        png = image.png if image.path is None else self._read(self._result(manifest.job.id) / image.path)
        if png is None:
            raise ResultExpired
        return png

    def trace(self, manifest: Manifest) -> bytes | None:
        """Returns the kept moments of a result as an .npz file; None if there are none, ResultExpired if deleted."""
        return self._arrays(manifest, manifest.trace)

    def film(self, manifest: Manifest, index: int) -> bytes | None:
        """Returns the film of one image; None if it has none. Raises like `trace`."""
        film = manifest.images[index].film
        if film is None and (npz := self._arrays(manifest, manifest.films)):
            film = unpacked(npz, index)
        return film

    def _arrays(self, manifest: Manifest, path: str | None) -> bytes | None:
        if path is None:
            return None
        npz = self._read(self._result(manifest.job.id) / path, LARGE_SECONDS)
        if npz is None:
            raise ResultExpired
        return npz

    def write_upload(self, job_id: str, sha256: str, file: bytes) -> None:
        """Stores a fitted image of a request, whose SHA-256 is known already."""
        self._write(self._upload(job_id, sha256), file)

    def upload(self, job_id: str, sha256: str) -> bytes | None:
        """Returns a fitted image of a request as PNG; None if it was deleted."""
        return self._read(self._upload(job_id, sha256))

    def delete_images(self, job_id: str) -> None:
        """Deletes the images and the uploads of a job that has ended; may be repeated.

        An empty manifest is left until it is swept. So an attempt that ends late, of a worker that seemed dead, cannot
        become the result.
        """
        manifest = self._result(job_id) / "manifest.json"
        self._write(manifest, b"")
        self.drop_snapshot(job_id)
        for folder in (manifest.parent, self._upload(job_id, "").parent):
            with suppress(FileNotFoundError):
                for path in self._do("read", partial(self._blobs.find, folder)):
                    if path != manifest:
                        self._delete(path, top=folder.parent.parent)

    def save_snapshot(self, job_id: str, data: bytes) -> None:
        self._write(self._snapshot(job_id), data, LARGE_SECONDS)

    def snapshot(self, job_id: str) -> bytes | None:
        """Returns the last snapshot of a job; None if there is none."""
        return self._read(self._snapshot(job_id), LARGE_SECONDS)

    def drop_snapshot(self, job_id: str) -> None:
        self._delete(self._snapshot(job_id), top=self._root / "snapshots")

    def check(self) -> None:
        """Writes and deletes a file; raises StoreUnavailable if that fails or takes longer than CHECK_SECONDS."""
        path = self._root / "checks" / uuid.uuid4().hex

        def create_and_delete() -> None:  # one call, so that the file is deleted even after the time limit
            self._blobs.create({path: CHECKED})  # as results are, where not every file system or bucket can
            self._blobs.delete(path)

        self._do("check", create_and_delete, CHECK_SECONDS)

    def space(self) -> tuple[int, int] | None:
        """Returns the free and the total bytes of the store's disk; None if the store is not a local folder."""
        with _translated():
            return self._checks.call(self._blobs.space, CHECK_SECONDS)

    def sweep(self, max_age: float, *, needed: Callable[[str], bool] = lambda job_id: False) -> int:
        """Deletes all files that were written more than `max_age` seconds ago, and folders that have been empty since.

        A file that may not be deleted is passed over, and so are old uploads of jobs that are `needed`. It has no time
        limit, because there may be a great many files. Returns their number.
        """
        oldest, deleted, uploads = time.time() - max_age, 0, self._root / "uploads"
        refused: list[PurePosixPath] = []
        for path, top in self._swept():
            if not self._is_older(path, oldest) or (path.is_relative_to(uploads) and needed(path.parent.name)):
                continue
            try:
                with suppress(FileNotFoundError):  # several workers may sweep at once
                    self._blobs.delete(path, top=top)
                    deleted += 1
            except PermissionError:
                refused.append(path)
            except Exception as error:
                raise StoreUnavailable from error
        for kind in KINDS:
            self._blobs.prune(self._root / kind, before=oldest)
        if refused:
            log.warning("%d old files may not be deleted, %s among them", len(refused), refused[0])
        return deleted

    def _swept(self) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
        for kind in KINDS:
            with _translated():
                found = self._blobs.find(self._root / kind)
            yield from [(path, self._root / kind) for path in found]

    def _is_older(self, path: PurePosixPath, oldest: float) -> bool:
        with _translated(), suppress(FileNotFoundError):
            return self._blobs.written_at(path) < oldest
        return False

    def _result(self, job_id: str) -> PurePosixPath:
        return self._root / "results" / job_id[:2] / job_id

    def _upload(self, job_id: str, sha256: str) -> PurePosixPath:
        return self._root / "uploads" / job_id[:2] / job_id / sha256

    def _snapshot(self, job_id: str) -> PurePosixPath:
        return self._root / "snapshots" / job_id[:2] / job_id

    def _read(self, path: PurePosixPath, seconds: float = IMAGE_SECONDS) -> bytes | None:
        with suppress(FileNotFoundError):
            return self._do("read", lambda: self._blobs.read(path), seconds)
        return None

    def _write(self, path: PurePosixPath, data: bytes, seconds: float = IMAGE_SECONDS) -> None:
        self._do("write", lambda: self._blobs.write(path, data), seconds)

    def _delete(self, path: PurePosixPath, *, top: PurePosixPath) -> None:
        with suppress(FileNotFoundError):
            self._do("delete", lambda: self._blobs.delete(path, top=top))

    def _do(self, operation: str, function: Callable[[], Result], seconds: float = IMAGE_SECONDS) -> Result:
        """Makes a call with a time limit, and informs the observer of it; raises like `_translated`.

        Where something is written, FileNotFoundError means that the folder or bucket is missing.
        """
        began, failed = time.monotonic(), True
        try:
            with _translated():
                result = (self._checks if operation == "check" else self._calls).call(function, seconds)
            failed = False
            return result
        except FileNotFoundError as error:
            failed = operation in ("write", "check")
            if failed:
                raise StoreUnavailable from error
            raise
        finally:
            self._observe(operation, time.monotonic() - began, failed)


@contextmanager
def _translated() -> Iterator[None]:
    """Turns all errors into StoreUnavailable, except FileNotFoundError, which all filesystems raise alike."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StoreUnavailable from error
