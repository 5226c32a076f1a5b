"""Memory of the front end while many clients ask for much at once, measured from outside."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from difuso.model.checkpoint import save_checkpoint
from difuso.model.conditions import Vector
from difuso.model.networks.configs import UNetConfig
from tests.app_server import api_process
from tests.forking import Command
from tests.small_models import NETWORK, checkpoint_of
from tests.waiting import wait_until
from tests.worker_stack import Stack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc: run it on Linux"),
]

SIZE = 4096  # of the longest vector that a model can have
IMAGES = 19  # whose vectors fill most of a job
CONDITIONS = {"style": Vector(4, null=True), "like": Vector(SIZE, null=True)}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    network = UNetConfig(vector_size=SIZE + 6, **NETWORK)
    model = checkpoint_of(network, conditions=CONDITIONS)
    save_checkpoint(folder / "vectors", model.config, model.network)
    return folder


class Api:
    """A front end in a process of its own."""

    def __init__(self, process: Command, client: httpx.Client) -> None:
        self.client = client
        self._process = process

    @property
    def megabytes(self) -> float:
        """Of memory that it takes at the moment."""
        return self._kilobytes("VmRSS") / 1024

    @property
    def peak(self) -> float:
        """The most megabytes of memory that it has taken since `forget_peak`."""
        return self._kilobytes("VmHWM") / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def _kilobytes(self, name: str) -> int:
        return int(re.findall(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text())[0])

    def send(self, request: bytes, body: bytes = b"") -> socket.socket:
        """Returns the connection on which a request was sent."""
        connection = socket.create_connection((self.client.base_url.host, self.client.base_url.port or 0), timeout=60)
        length = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if body else b""
        connection.sendall(request + b" HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n" + body)
        return connection


@pytest.fixture
def api(redis_url: str, models_dir: Path, tmp_path: Path) -> Iterator[Api]:
    with api_process(redis_url, models_dir, tmp_path) as (process, client):
        yield Api(process, client)


def accepts(stack: Stack, ref: str, jobs: int) -> bool:
    return stack.queue.backlog(ref).jobs == jobs


def test_waiting_requests_hold_none_of_what_they_sent(api: Api, stack: Stack) -> None:
    """The longest vectors that a job can have."""
    body = json.dumps({"steps": 1, "condition": [f"like:{','.join(SIZE * ['0.1'])}"] * IMAGES}).encode()
    before, ref = api.megabytes, stack.model("vectors").ref
    with ExitStack() as clients:
        for number in range(100):
            clients.enter_context(api.send(b"POST /generate", body))
            wait_until(partial(accepts, stack, ref, number + 1), 60, "the request waits")
        assert api.megabytes - before < 200


def test_lists_of_long_vectors_take_bounded_memory(api: Api, stack: Stack) -> None:
    """Eight at once, each of a hundred jobs with the longest conditions: 0.1 is short and takes most memory."""
    shown = tuple(SIZE * (0.1,) for _ in range(IMAGES))
    for _ in range(100):
        stack.submit(model="vectors", n=IMAGES, conditions={"like": shown})
    before = api.megabytes
    api.forget_peak()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.client.get("/jobs?limit=100").json(), range(24)))
    assert all(answer["jobs"] and answer["next"] for answer in answers)
    assert api.peak - before < 600
