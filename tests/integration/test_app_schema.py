"""schemathesis, which makes requests from our OpenAPI, right ones and wrong ones, and compares the answers with it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from difuso.app.settings import ApiSettings
from difuso.jobs.catalog import read_catalog
from difuso.jobs.redis.keys import queue_key, queues_of
from tests.app_server import ALICE, FakeWorker, keys_file, running

ANSWER_SECONDS = 30  # in which all answers come, and streams of events end
# Two checks ask for what is not so here. What the schema allows need not be accepted: some parameters do not go
# together, and a schema cannot say which. And a job that DELETE has cancelled is still there, as cancelled.
EXCLUDED = "positive_data_acceptance,use_after_free"
OPTIONS = ("--checks", "all", "--exclude-checks", EXCLUDED, "--seed", "0", "--no-color")
# Half of all job ids are of jobs that there are; guessed ones never are. Streams are read to their end. A body that
# breaks the schema may be too large as well, which is answered first: schemathesis expects all of these but 413.
CONFIG = """
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
max-stream-events = 100000
request-timeout = {seconds}
dictionaries.jobs.values = {jobs}
parameters."path.job_id" = {{ dictionary = "jobs", probability = 0.5 }}
"""


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> dict[str, str]:
    """The headers of all requests: those of a caller with a key, if a test says so."""
    headers: dict[str, str] = getattr(request, "param", {})
    return headers


@pytest.fixture
def settings(redis_url: str, models_dir: Path, tmp_path: Path, caller: dict[str, str]) -> ApiSettings:
    """There is room for all that comes, and nobody waits long."""
    return ApiSettings(
        redis_url=redis_url,
        models_dir=models_dir,
        store_url=str(tmp_path / "store"),
        sync_wait=1,
        max_jobs=100_000,
        training=True,
        api_keys_file=keys_file(tmp_path) if caller else None,
    )


@pytest.fixture
def api(settings: ApiSettings, caller: dict[str, str]) -> Iterator[httpx.Client]:
    with running(settings) as client:
        client.headers.update(caller)
        yield client


@pytest.fixture
def ended_jobs(api: httpx.Client, worker: FakeWorker) -> list[str]:
    """A job that has pictures, and one that was cancelled."""

    def submit() -> str:
        job_id: str = api.post("/generate?n=2", headers={"Prefer": "respond-async"}).json()["id"]
        return job_id

    succeeded, cancelled = submit(), submit()
    worker.succeed(succeeded)
    api.delete(f"/jobs/{cancelled}").raise_for_status()
    return [succeeded, cancelled]


@pytest.fixture
def busy_worker(settings: ApiSettings, worker: FakeWorker, ended_jobs: list[str]) -> Iterator[None]:
    """From now on every job succeeds as soon as it is queued, so that waiting ends and streams do."""
    stop = threading.Event()
    queues = [queue_key(name) for name in queues_of(read_catalog(settings.models_dirs[0]).models["tiny"].ref)]

    def work() -> None:
        with redis.Redis.from_url(settings.redis_url) as client:
            while not stop.wait(0.02):
                worker.report(ready=True, rate=1e6)
                for job_id in [raw.decode() for queue in queues for raw in client.lrange(queue, 0, -1)]:
                    worker.succeed(job_id)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def run_schemathesis(api: httpx.Client, jobs: list[str], folder: Path, *options: str) -> None:
    """Fails with what it printed if it found something."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(jobs=json.dumps(jobs), seconds=ANSWER_SECONDS))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{api.base_url}/openapi.json", *OPTIONS, *options]
    if "Authorization" in api.headers:
        command += ["--header", f"Authorization: {api.headers['Authorization']}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    said = re.sub("[.W]{99,}", "...", done.stdout)  # a mark for each request of a phase
    print(said[-20_000:], done.stderr[-2_000:])  # noqa: T201 - what pytest shows if it fails
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("busy_worker")
def test_some_requests_of_every_kind_are_answered_as_the_schema_says(
    api: httpx.Client, ended_jobs: list[str], tmp_path: Path
) -> None:
    run_schemathesis(api, ended_jobs, tmp_path, "--max-examples", "8", "--phases", "fuzzing,stateful")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("busy_worker")
@pytest.mark.parametrize("caller", [{}, ALICE], ids=["without keys", "with a key"], indirect=True)
def test_no_request_is_answered_otherwise_than_the_schema_says(
    api: httpx.Client, ended_jobs: list[str], tmp_path: Path
) -> None:
    """`make fuzz`."""
    run_schemathesis(api, ended_jobs, tmp_path, "--max-examples", "1000", "--continue-on-failure")
