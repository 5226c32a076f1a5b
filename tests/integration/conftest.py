"""Fixtures of the tests of the API: the application behind a real server, on a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker, FrontEnd, running
from tests.worker_stack import Stack

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def front_end() -> Iterator[FrontEnd]:
    with closing(FrontEnd()) as front_end:
        yield front_end


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a module's front end, for its store and its keys."""
    return tmp_path_factory.mktemp("front-end")


@pytest.fixture
def settings(redis_url: str, models_dir: Path, folder: Path) -> ApiSettings:
    """Returns the settings of a fresh installation; modules that test others have their own fixture."""
    return ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(folder / "store"))


@pytest.fixture
def worker(settings: ApiSettings) -> Iterator[FakeWorker]:
    """Returns a fake worker, which writes by hand."""
    worker = FakeWorker(settings)
    yield worker
    worker.client.close()


@pytest.fixture
def api(settings: ApiSettings, front_end: FrontEnd) -> Iterator[httpx.Client]:
    """Returns a client of the application."""
    with httpx.Client(base_url=front_end.url(settings), timeout=20) as client:
        yield client


@pytest.fixture
def new_api(settings: ApiSettings, tmp_path: Path) -> Iterator[httpx.Client]:
    """Yields a client of an application that has had no request yet."""
    with running(settings.model_copy(update={"store_url": str(tmp_path / "store")})) as client:
        yield client


@pytest.fixture
def stack(redis_url: str, models_dir: Path, tmp_path: Path) -> Iterator[Stack]:
    """Yields a Redis, a store, and as many workers as the test starts."""
    with closing(Stack(redis_url, models_dir, tmp_path)) as stack:
        yield stack


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Address of an empty S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What an operator sets."""
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_server}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    return environment


@pytest.fixture
def s3_url(s3: dict[str, str]) -> str:
    """A prefix in a bucket of its own."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/difuso"
