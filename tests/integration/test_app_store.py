"""The API and a store that hangs or is full; real disks, real connections."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import s3fs

from difuso.app.settings import ApiSettings
from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.store.result_store import ResultStore
from tests.app_server import api_process, running
from tests.pictures import black_png
from tests.waiting import wait_until


@pytest.fixture
def silent_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield "s3://bucket/difuso"


@pytest.mark.slow
def test_a_bucket_that_never_answers_is_unavailable(silent_bucket: str) -> None:
    store = ResultStore(silent_bucket)
    with pytest.raises(StoreUnavailable):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.upload("0f8fad5b-d9cb-469f-a165-70867728950e", "ab" * 32)


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_store_that_hangs_takes_no_thread_for_ever(redis_url: str, models_dir: Path, silent_bucket: str) -> None:
    """Of which there are 100: were they lost, the requests after these would wait for ever. No job is accepted."""
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=silent_bucket)
    with running(settings) as api, ThreadPoolExecutor(150) as pool:
        url = api.base_url.join("/generate")  # each with a client of its own: one client has 100 connections at most
        answers = list(pool.map(lambda _: httpx.post(url, timeout=60).status_code, range(150)))
        assert set(answers) == {503}
        assert api.get("/readyz?verbose").json()["store"] == "away"
        sent = api.post("/denoise", files={"image": black_png(16, 16)}, timeout=60)
        assert sent.status_code == 503
        assert sent.json()["type"].endswith("store-unavailable")
        assert api.get("/models").status_code == 200


@pytest.mark.timeout(120)
def test_a_full_disk_is_reported_and_nothing_is_left_on_it(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    picture = {"image": black_png(16, 16)}
    with api_process(redis_url, models_dir, tmp_path) as (process, api):
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for _ in range(5):
            assert api.post("/denoise", files=picture).status_code == 503
            assert api.post("/generate", headers={"Prefer": "respond-async"}).status_code == 503
            assert api.post("/generate?dry_run=true").status_code == 503, "as the job would be"
        assert api.get("/readyz?verbose").json()["store"] == "away"
        assert not list((tmp_path / "store").rglob("*"))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        wait_until(lambda: api.get("/readyz?verbose").json()["store"] == "ok", 10, "the store is tried again")
        assert api.post("/denoise", files=picture, headers={"Prefer": "respond-async"}).status_code == 202
