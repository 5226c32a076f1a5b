"""`difuso serve` with two workers: both work, one dies, both drain, and no byte shows that there were two."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.stack import free_port
from difuso.supervisor.machine import find_cores
from tests.serving import Difuso, executed, running
from tests.waiting import wait_until

SEEDS = (100, 200)


def post(difuso: Difuso, seed: int) -> str:
    """The address of a new job of some seconds."""
    url = f"{difuso.url}/generate?steps=500&sampler=ddpm&seed={seed}"
    answer = httpx.post(url, headers={"Prefer": "respond-async"}, timeout=30)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def images(difuso: Difuso, jobs: Sequence[str]) -> list[bytes]:
    """The PNGs of jobs, when they have ended."""

    def states() -> set[str]:
        return {httpx.get(f"{difuso.url}{path}", timeout=30).json()["state"] for path in jobs}

    wait_until(lambda: states() == {"succeeded"}, timeout=120, description="the jobs have succeeded")
    return [httpx.get(f"{difuso.url}{path}/images/0", timeout=30).content for path in jobs]


def in_flight(port: int) -> int | None:
    """How many jobs a worker has; None while it does not answer."""
    try:
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    except httpx.TransportError:
        return None
    found = re.search(r"^difuso_jobs_in_flight (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


@contextmanager
def bound_to(processors: Collection[int]) -> Iterator[None]:
    """What is started meanwhile sees these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


two_cores_needed = pytest.mark.skipif(
    sys.platform != "linux" or len(find_cores()) < 2, reason="two workers need two cores"
)


@pytest.mark.slow
@two_cores_needed
@pytest.mark.usefixtures("redis_server")
def test_two_workers_whose_threads_are_set_share_no_core(tmp_path: Path, environment: dict[str, str]) -> None:
    with running(tmp_path, {**environment, "DIFUSO_WORKERS": "2"}) as difuso:
        assert "starting 2 workers with 1 threads each" in difuso.output
        first, second = (os.sched_getaffinity(difuso.pid(f"worker {number}")) for number in (1, 2))
        assert not first & second


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("redis_server")
@two_cores_needed
def test_two_workers_share_the_work_the_losses_and_the_bytes(tmp_path: Path, environment: dict[str, str]) -> None:
    first = free_port(2)
    ports = (first, first + 1)
    environment |= {
        "DIFUSO_SLOTS": "1",  # a worker takes one job at a time, so two jobs need both
        "DIFUSO_METRICS_PORT": str(ports[0]),
        "DIFUSO_DRAIN_SECONDS": "1",
    }

    def busy(*jobs: int | None) -> bool:
        return tuple(map(in_flight, ports)) == jobs

    two_cores = {processor for core in find_cores()[:2] for processor in core}
    auto = {name: value for name, value in environment.items() if name != "OMP_NUM_THREADS"}
    auto["DIFUSO_WORKERS"] = "auto"
    with bound_to(two_cores), running(tmp_path, auto, start=executed) as difuso:
        assert "starting 2 workers with one core each, or all for one that has work alone" in difuso.output
        wait_until(lambda: busy(0, 0), timeout=40, description="both workers wait for jobs")
        pids = [difuso.pid(f"worker {number}") for number in (1, 2)]
        lost = [post(difuso, seed) for seed in SEEDS]
        wait_until(lambda: busy(1, 1), timeout=20, description="each worker has a job")
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: difuso.pid("worker 1") != pids[0], timeout=20, description="worker 1 is started again")
        os.kill(difuso.pid("worker 1"), signal.SIGSTOP)  # while it imports, so that the other must take over its job
        found = [images(difuso, lost)]
        os.kill(difuso.pid("worker 1"), signal.SIGCONT)
        wait_until(lambda: busy(0, 0), timeout=40, description="worker 1 waits for jobs again")
        assert difuso.pid("worker 2") == pids[1]

        handed_over = [post(difuso, seed) for seed in SEEDS]
        wait_until(lambda: busy(1, 1), timeout=20, description="each worker has a job again")
        difuso.process.send_signal(signal.SIGTERM)
        assert difuso.process.wait(60) == 0
        assert difuso.output.count("drained after") == 2
        assert re.findall(r"stopping (.+)", difuso.output) == ["worker 1", "worker 2", "api", "redis"]

    with running(tmp_path, {**environment, "DIFUSO_WORKERS": "1"}) as difuso:
        found += [
            images(difuso, handed_over),
            images(difuso, [post(difuso, seed) for seed in SEEDS]),
        ]
    assert found[0] == found[1] == found[2]
    assert found[0][0] != found[0][1]
