"""Fixtures of the tests of the API: the application behind a real server, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker, FrontEnd, running
from tests.worker_stack import Stack


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
