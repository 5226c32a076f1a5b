"""The result store: one result per job, never half of one, on a disk and on any other fsspec filesystem."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import fsspec
import pytest
from fsspec.config import conf as fsspec_settings
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from difuso.jobs.contract import ImageFile, Job, Manifest
from difuso.jobs.errors import ResultExpired, StoreUnavailable
from difuso.jobs.params import SamplingParams
from difuso.jobs.store.blobs import S3_TIMEOUTS, Blobs
from difuso.jobs.store.result_store import ResultStore
from difuso.jobs.store.time_limited_calls import TimeLimitedCalls

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultStore:
    return ResultStore(str(tmp_path / "store") if request.param == "file" else f"memory://{tmp_path}")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def age(folder: Path, name: str) -> None:
    """Makes the uploads of this name look a thousand seconds old."""
    long_ago = time.time() - 1000
    for path in (folder / "uploads").rglob(name):
        os.utime(path, (long_ago, long_ago))


def manifest(attempt: str) -> Manifest:
    params = SamplingParams(n=1, steps=1, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=ID, model="tiny", params=params, accepted_at=0, timeout=1)
    image = ImageFile(path=f"{attempt}/0.png", seed=0, sha256="")
    return Manifest(job=job, timesteps=(0,), images=(image,), finished_at=0)


def test_the_first_attempt_wins(store: ResultStore) -> None:
    for attempt in ("first", "second"):
        assert store.write_image(ID, attempt, 0, attempt.encode()) == f"{attempt}/0.png"
    assert store.manifest(ID) is None
    assert store.commit_all([manifest("first")])[0]
    assert not store.commit_all([manifest("second")])[0]
    found = store.manifest(ID)
    assert found == manifest("first")
    assert store.image(found, 0) == b"first"


def test_of_several_results_each_is_stored_unless_another_attempt_was_first(store: ResultStore) -> None:
    other = manifest("second")
    other = other.model_copy(update={"job": other.job.model_copy(update={"id": "ff" + ID[2:]})})
    store.commit_all([manifest("first")])
    refused, stored = store.commit_all([manifest("second"), other])
    assert refused is None
    assert stored is not None
    assert store.manifest(ID) == manifest("first")
    assert store.manifest(other.job.id) == other == Manifest.read(stored)


def test_small_images_lie_in_the_manifest(store: ResultStore) -> None:
    image = ImageFile(seed=0, sha256="", png=bytes(range(256)))
    assert store.commit_all([manifest("first").model_copy(update={"images": (image,)})])[0]
    found = store.manifest(ID)
    assert found is not None
    assert store.image(found, 0) == bytes(range(256))


def test_of_many_attempts_at_once_one_wins(tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.commit_all([manifest(str(i))])[0], range(32)))
    (winner,) = (number for number, file in enumerate(won) if file is not None)
    assert store.manifest(ID) == Manifest.read(won[winner] or b"") == manifest(str(winner))


def test_deleted_pictures_are_replaced_by_no_later_attempt(store: ResultStore) -> None:
    other = "ff" + ID[2:]
    for job_id in (ID, other):
        store.write_image(job_id, "first", 0, b"first")
        store.write_upload(job_id, digest(b"sent"), b"sent")
        store.save_snapshot(job_id, b"half")
    assert store.commit_all([manifest("first")])[0]
    for _ in range(2):
        store.delete_images(ID)
        assert store.manifest(ID) is None
        assert not store.commit_all([manifest("second")])[0]
        assert store.upload(ID, digest(b"sent")) is None
        assert store.snapshot(ID) is None
        with pytest.raises(ResultExpired):
            store.image(manifest("first"), 0)
    assert store.upload(other, digest(b"sent")) == b"sent"
    assert store.snapshot(other) == b"half"


def test_a_trace_is_that_of_the_attempt_that_won(store: ResultStore) -> None:
    assert store.write_arrays(ID, "second", "trace", b"other") == "second/trace.npz"
    kept = manifest("first").model_copy(update={"trace": store.write_arrays(ID, "first", "trace", b"floats")})
    assert store.commit_all([kept])[0]
    found = store.manifest(ID)
    assert found == kept
    assert store.trace(found) == b"floats"
    assert store.trace(manifest("first")) is None
    store.delete_images(ID)
    for attempt in (kept, kept.model_copy(update={"trace": "second/trace.npz"})):
        with pytest.raises(ResultExpired):
            store.trace(attempt)


def test_a_snapshot_is_replaced_and_dropped(store: ResultStore) -> None:
    assert store.snapshot(ID) is None
    for data in (b"one", b"two"):
        store.save_snapshot(ID, data)
        assert store.snapshot(ID) == data
    store.drop_snapshot(ID)
    store.drop_snapshot(ID)
    assert store.snapshot(ID) is None


def test_uploads_are_kept_each_for_itself(store: ResultStore) -> None:
    pictures = [b"picture 0", b"picture 1"]
    assert store.upload(ID, digest(pictures[0])) is None
    for picture in pictures:
        store.write_upload(ID, digest(picture), picture)
    assert [store.upload(ID, digest(picture)) for picture in pictures] == pictures
    assert store.upload("ff" + ID[2:], digest(pictures[0])) is None
    assert store.manifest(ID) is None


def test_the_sweeper_leaves_what_a_job_still_needs_whatever_its_age(tmp_path: Path) -> None:
    store, waiting, over = ResultStore(str(tmp_path)), ID, "ff" + ID[2:]
    for job_id in (waiting, over):
        store.write_upload(job_id, digest(b"picture"), b"picture")
    age(tmp_path, digest(b"picture"))
    assert store.sweep(500, needed=lambda job_id: job_id == waiting) == 1
    assert store.upload(waiting, digest(b"picture")) == b"picture"
    assert store.upload(over, digest(b"picture")) is None


def test_the_sweeper_takes_what_is_old_and_leaves_no_folder(tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path))
    store.write_image(ID, "old", 0, b"old")
    old = next((tmp_path / "results").rglob("*.png"))
    long_ago = time.time() - 1000
    os.utime(old, (long_ago, long_ago))
    store.write_image("ff" + ID[2:], "new", 0, b"new")
    assert store.sweep(500) == 1
    assert [path.read_bytes() for path in (tmp_path / "results").rglob("*.png")] == [b"new"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["ff"]


def test_folders_that_have_long_been_empty_are_swept(tmp_path: Path) -> None:
    """A process may have ended before it put a file there."""
    store = ResultStore(str(tmp_path))
    store.write_upload(ID, digest(b"picture"), b"picture")
    old, new = tmp_path / "results" / "aa" / "job" / "attempt", tmp_path / "snapshots" / "bb"
    for folder in (old, new, tmp_path / "snapshots" / "cc", tmp_path / "others"):
        folder.mkdir(parents=True)
    for folder in (*old.parents[:2], old, tmp_path / "snapshots" / "cc", tmp_path / "others", tmp_path / "checks"):
        folder.mkdir(exist_ok=True)
        os.utime(folder, (time.time() - 1000,) * 2)
    assert store.sweep(500) == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()}
    own = f"uploads/{ID[:2]}"
    assert left == {"results", "snapshots", "snapshots/bb", "checks", "others", "uploads", own, f"{own}/{ID}"}


def test_a_file_gets_its_folder_though_others_remove_it_while_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, make, made = ResultStore(str(tmp_path)), Path.mkdir, []

    def make_and_lose(folder: Path, *args: Any, **kwargs: Any) -> None:
        make(folder, *args, **kwargs)
        made.append(folder)
        if len(made) < 5:
            folder.rmdir()

    monkeypatch.setattr(Path, "mkdir", make_and_lose)
    store.save_snapshot(ID, b"snapshot")
    assert store.snapshot(ID) == b"snapshot"
    assert len(made) > 5


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreUnavailable):
        ResultStore(str(blocked)).check()


def test_a_store_that_takes_no_results_is_found_out_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have no hard links, by which a result is created once."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreUnavailable):
        ResultStore(str(tmp_path)).check()


def test_the_disk_of_a_store_is_known_before_the_first_write(tmp_path: Path) -> None:
    space = ResultStore(str(tmp_path / "not" / "yet")).space()
    assert space is not None
    assert 0 < space[0] <= space[1]
    assert ResultStore("memory://somewhere").space() is None


def test_a_usable_store_stays_as_it_was(store: ResultStore, tmp_path: Path) -> None:
    store.check()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_check_that_hangs_costs_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is repeated; other calls keep theirs."""
    stuck, call, hanging = Event(), TimeLimitedCalls.call, list[object]()

    def hang(*args: object, **kwargs: object) -> None:
        hanging.append(args)
        stuck.wait()

    monkeypatch.setattr(TimeLimitedCalls, "call", lambda self, function, seconds: call(self, function, 0.1))
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", hang)
    store = ResultStore(f"memory://{tmp_path}")
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                store.check()
        assert len(hanging) == 1
        assert store.manifest(ID) is None
    finally:
        stuck.set()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = ResultStore(str(tmp_path / "store"))
    monkeypatch.setattr(os, "fsync", full)
    for write in (
        store.check,
        lambda: store.write_image(ID, "first", 0, b"picture"),
        lambda: store.save_snapshot(ID, b"snapshot"),
        lambda: store.commit_all([manifest("first")])[0],
    ):
        with pytest.raises(StoreUnavailable):
            write()
        assert not list((tmp_path / "store").rglob("*"))


def test_the_sweeper_takes_leftovers_of_every_kind_and_nothing_of_others(tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path))
    store.save_snapshot(ID, b"snapshot")
    folder = tmp_path / "snapshots" / ID[:2]
    checks = tmp_path / "checks"
    checks.mkdir()
    leftovers = [folder / f".{ID}-0", checks / "0", checks / ".0-1"]
    others = [tmp_path / "check-list", tmp_path / ".gitignore"]
    for path in (*leftovers, *others, checks / "new"):
        path.touch()
    for path in (*leftovers, *others):
        os.utime(path, (time.time() - 1000,) * 2)
    assert store.sweep(500) == len(leftovers)
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in (*others, checks / "new", folder / ID))


def test_a_store_that_hangs_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, call = Event(), TimeLimitedCalls.call
    monkeypatch.setattr(TimeLimitedCalls, "call", lambda self, function, seconds: call(self, function, 0.1))
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *args: stuck.wait())
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *args, **kwargs: stuck.wait())
    monkeypatch.setattr(MemoryFileSystem, "rm_file", lambda *args: stuck.wait())
    store = ResultStore(f"memory://{tmp_path}")
    try:
        for use in (
            store.check,
            lambda: store.write_image(ID, "first", 0, b"picture"),
            lambda: store.commit_all([manifest("first")])[0],
            lambda: store.manifest(ID),
            lambda: store.snapshot(ID),
            lambda: store.drop_snapshot(ID),
        ):
            with pytest.raises(StoreUnavailable):
                use()
    finally:
        stuck.set()


def test_operations_are_observed_with_their_time_and_whether_they_failed(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []

    def observe(operation: str, seconds: float, failed: bool) -> None:
        assert seconds >= 0
        seen.append((operation, failed))

    store = ResultStore(str(tmp_path / "store"), observe)
    store.check()
    assert store.manifest(ID) is None, "a missing file is an answer"
    store.commit_all([manifest("first")])
    store.drop_snapshot(ID)
    assert seen == [("check", False), ("read", False), ("write", False), ("delete", False)]
    seen.clear()
    (tmp_path / "file").touch()
    broken = ResultStore(str(tmp_path / "file"), observe)
    for use in (broken.check, lambda: broken.save_snapshot(ID, b"")):
        with pytest.raises(StoreUnavailable):
            use()
    assert seen == [("check", True), ("write", True)]


def test_what_an_operator_sets_of_a_bucket_leaves_the_other_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec_settings, "s3", {"config_kwargs": {"read_timeout": 20}})
    fs, _ = fsspec.url_to_fs("s3://bucket")
    assert fs.config_kwargs == {"read_timeout": 20}  # as fsspec alone has it
    made = Blobs("s3://bucket/prefix")._fs
    assert made.config_kwargs == {"connect_timeout": 3, "read_timeout": 20, "retries": {"max_attempts": 0}}
    made.config_kwargs["retries"]["mode"] = "legacy"  # as botocore does to what it is given
    assert S3_TIMEOUTS["retries"] == {"max_attempts": 0}


def test_a_result_of_an_earlier_job_of_the_same_id_is_replaced(tmp_path: Path) -> None:
    """An Idempotency-Key makes the same id again, perhaps before the old result is swept."""
    store = ResultStore(str(tmp_path))
    assert store.commit_all([manifest("first")])[0]
    later = manifest("second").model_copy(
        update={"job": manifest("").job.model_copy(update={"accepted_at": time.time()})}
    )
    assert not store.commit_all([later])[0]  # the clocks of two machines may differ by a few seconds
    (file,) = tmp_path.rglob("manifest.json")
    for deleted in (False, True):
        if deleted:
            store.delete_images(ID)
        os.utime(file, (0, 0))
        assert store.commit_all([later])[0]
        assert not store.commit_all([manifest("third")])[0]
        assert store.manifest(ID) == later


def test_the_sweeper_passes_over_what_it_may_not_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = ResultStore(str(tmp_path)), "ff" + ID[2:]
    for job_id in (ID, other):
        store.write_image(job_id, "first", 0, b"old")
        store.save_snapshot(job_id, b"old")
    delete = LocalFileSystem.rm_file

    def refuse(self: LocalFileSystem, path: str) -> None:
        if ID in path:
            raise PermissionError(path)
        delete(self, path)

    monkeypatch.setattr(LocalFileSystem, "rm_file", refuse)
    assert store.sweep(-1) == 2
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"0.png", ID}
    (warning,) = caplog.messages
    assert warning.startswith("2 old files may not be deleted")
