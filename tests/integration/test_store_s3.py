"""The result store in a bucket: moto's server over HTTP, s3fs as shipped."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import s3fs

from difuso.app.settings import ApiSettings
from difuso.jobs.contract import ImageFile, Job, Manifest
from difuso.jobs.errors import ResultExpired, StoreUnavailable
from difuso.jobs.params import SamplingParams
from difuso.jobs.store.result_store import ResultStore
from tests.app_server import running
from tests.forking import Command
from tests.pictures import black_png
from tests.waiting import wait_until

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
UPLOAD = hashlib.sha256(b"upload").hexdigest()


def manifest(attempt: str) -> Manifest:
    params = SamplingParams(n=1, steps=1, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=ID, model="tiny", params=params, accepted_at=0, timeout=1)
    image = ImageFile(path=f"{attempt}/0.png", seed=0, sha256="")
    return Manifest(job=job, timesteps=(0,), images=(image,), finished_at=0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What S3 is asked, and the condition on it."""
    made: list[tuple[str, Any]] = []
    call = s3fs.S3FileSystem._call_s3

    async def noted(self: s3fs.S3FileSystem, method: str, *args: Any, **kwargs: Any) -> Any:
        made.append((method, kwargs.get("IfNoneMatch")))
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", noted)
    return made


def test_the_first_manifest_wins_by_a_conditional_put(s3_url: str, calls: list[tuple[str, Any]]) -> None:
    store = ResultStore(s3_url)
    assert store.manifest(ID) is None
    calls.clear()
    assert store.commit_all([manifest("first")])[0]
    assert calls == [("put_object", "*")], "looking first and writing then would let two attempts win"
    assert not store.commit_all([manifest("second")])[0]
    assert store.manifest(ID) == manifest("first")


def test_a_server_that_does_not_say_why_it_refused_is_understood(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("412")

    store = ResultStore(s3_url)
    store.commit_all([manifest("first")])
    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", refuse)
    assert not store.commit_all([manifest("second")])[0]
    assert store.manifest(ID) == manifest("first")


def test_pictures_uploads_and_snapshots_are_kept_and_dropped(s3_url: str) -> None:
    store = ResultStore(s3_url)
    assert store.upload(ID, UPLOAD) is None  # makes the client, for which a check leaves little time
    store.check()
    assert store.write_image(ID, "first", 0, b"picture") == "first/0.png"
    assert store.image(manifest("first"), 0) == b"picture"
    with pytest.raises(ResultExpired):
        store.image(manifest("never written"), 0)
    store.write_upload(ID, UPLOAD, b"upload")
    assert store.upload(ID, UPLOAD) == b"upload"
    for data in (b"one", b"two"):
        store.save_snapshot(ID, data)
        assert store.snapshot(ID) == data
    for _ in range(2):
        store.drop_snapshot(ID)
    assert store.snapshot(ID) is None
    assert store.space() is None


def test_the_sweeper_takes_what_is_old_without_asking_for_each_object(
    s3_url: str, calls: list[tuple[str, Any]]
) -> None:
    store = ResultStore(s3_url)
    assert store.sweep(0) == 0
    when_empty = len(calls)
    for index in range(3):
        store.write_image(ID, "first", index, b"picture")
    store.write_upload(ID, UPLOAD, b"upload")
    calls.clear()
    assert store.sweep(3600) == 0
    assert len(calls) <= when_empty
    assert store.sweep(-1) == 4
    assert store.upload(ID, UPLOAD) is None


def test_a_bucket_that_is_not_there_is_no_store(s3: dict[str, str]) -> None:
    store = ResultStore("s3://nobody-made-this-bucket/difuso")
    with pytest.raises(StoreUnavailable):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.commit_all([manifest("first")])


@pytest.mark.slow
def test_api_and_worker_meet_in_a_bucket(
    redis_url: str, models_dir: Path, s3_url: str, s3: dict[str, str], tmp_path: Path
) -> None:
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=s3_url)
    ours = s3 | {"REDIS_URL": redis_url, "DIFUSO_MODELS_DIR": str(models_dir), "DIFUSO_STORE_URL": s3_url}
    with running(settings) as api:
        worker = Command(["worker"], environment=os.environ | ours, folder=tmp_path, log=tmp_path / "worker.log")
        try:
            wait_until(lambda: api.get("/readyz?verbose").json().get("workers") == 1, 30, "a worker is ready")
            picture = api.post("/denoise?sigma=20&steps=4", files={"image": black_png(16, 16)})
            assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
        finally:
            worker.terminate()
            worker.wait(30)
    kinds = {path.split("/")[2] for path in s3fs.S3FileSystem().find(s3_url)}
    assert {"results", "uploads"} <= kinds
