"""What a lone request costs while nothing else happens, over the whole stack; and that its answer is what is stored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from difuso.app.settings import ApiSettings
from difuso.worker.queue.outcomes import ANSWER_BYTES
from tests.app_server import running
from tests.waiting import wait_until
from tests.worker_stack import Stack

pytestmark = pytest.mark.timeout(120)

# A process that notes all that it sends to Redis. A pipeline is sent as one, and so is a script.
NOTED = """
import json, time
from redis.connection import AbstractConnection

send = AbstractConnection.send_packed_command

def noted(connection, command, *args, **more):
    text = b"".join(command) if isinstance(command, list) else bytes(command)
    with open({path!r}, "a") as file:
        file.write(json.dumps([time.time(), text.decode("latin-1")]) + "\\n")
    return send(connection, command, *args, **more)

AbstractConnection.send_packed_command = noted
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The file with what the worker sends."""
    return tmp_path / "sent"


@pytest.fixture
def api(stack: Stack, notes: Path, redis_url: str, models_dir: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """Yields a client of a front end of this process, with a worker that is ready and idle."""
    stack.start_worker(first=NOTED.format(path=str(notes)))
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"))
    with running(settings) as client:
        wait_until(lambda: client.get("/models").json()["models"][0]["state"] == "ready", 60, "the worker is ready")
        yield client


def test_a_lone_job_of_one_step_costs_few_round_trips(
    api: httpx.Client, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least of several tries: at any moment a heartbeat may be due, too, or the machine be busy."""
    sent: list[bytes] = []
    for connection in (redis.connection.AbstractConnection, redis.asyncio.connection.AbstractConnection):
        send: Any = connection.send_packed_command

        def noted(self: Any, command: Any, *args: Any, send: Any = send, **more: Any) -> Any:
            sent.append(command)
            return send(self, command, *args, **more)

        monkeypatch.setattr(connection, "send_packed_command", noted)
    front_end, worker = [], []
    for _ in range(30):
        time.sleep(0.1)  # the worker is idle again
        sent.clear()
        began = time.time()
        answer = api.post("/generate?n=1&steps=1")
        front_end.append(len(sent))
        assert answer.status_code == 200
        worker.append(round_trips(notes, began, answer.headers["X-Job-Id"]))
        if min(front_end) <= 2 and min(worker) <= 4:
            return
    raise AssertionError(f"the front end took {min(front_end)} round trips, the worker {min(worker)}")


def round_trips(notes: Path, began: float, job_id: str) -> int:
    """Returns how often the worker sent something, from the wait for the job to its end."""
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    texts = [text for at, text in lines if at > began]
    (*_, end) = (number for number, text in enumerate(texts) if job_id in text)
    return 1 + len(texts[: end + 1])


@pytest.mark.parametrize("n", [1, 64])
def test_a_request_that_waits_gets_the_bytes_that_are_stored(api: httpx.Client, stack: Stack, n: int) -> None:
    """Whether its result came with the message of the end, or is too large for one."""
    answer = api.post(f"/generate?n={n}&steps=1&seed=3")
    assert answer.status_code == 200
    job_id = answer.headers["X-Job-Id"]
    size = len(stack.store.manifest(job_id).model_dump_json())  # type: ignore[union-attr]
    assert (size <= ANSWER_BYTES) == (n == 1)
    again = api.get(answer.headers["Content-Location"])
    assert again.content == answer.content
    for name in ("Content-Type", "ETag", "Server-Timing", "Content-Disposition"):
        assert again.headers[name] == answer.headers[name]


def test_a_job_that_is_over_in_a_moment_has_its_timesteps(api: httpx.Client) -> None:
    """They are written with its end; of a longer job a first report has them."""
    for steps in (1, 300):
        answer = api.post(f"/generate?n=1&steps={steps}")
        job = api.get(f"/jobs/{answer.headers['X-Job-Id']}?timesteps=true").json()
        assert len(job["timesteps"]) == steps == job["steps"]["done"]
