"""What one worker and one front end do to Redis, and how long they take: measured on the real stack over HTTP."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis

from benchmarks import stack
from benchmarks.buckets import measure_buckets
from benchmarks.idle import claim_seconds, image_seconds
from benchmarks.models import TINY, random_model
from benchmarks.report import say
from benchmarks.stack import Difuso
from jobs.contract import DEFAULT_URGENCY
from jobs.keys import queue_name

from .rates import Cost, Delays, RedisCosts, Steps
from .redis_acts import growing_costs, read

LONG = {"n": 32, "steps": 1000}  # a job that outlasts every window
HELD = 4
CLIENTS, JOBS = 4, 100
SAMPLES, STEPS = 40, 20


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        job_commands: the commands of one job, by name.
        command_shares: the share of each command in the time that Redis spent in commands for jobs.
    """

    costs: RedisCosts
    delays: Delays
    job_commands: Mapping[str, float]
    command_shares: Mapping[str, float]


def measure(window: float) -> Probe:
    """Measures costs and delays with a small network, whose speed does not matter here.

    Args:
        window: seconds of each look at a steady state.
    """
    say("commands and CPU seconds of Redis, with a small network")
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "tiny", TINY)
        begun = time.monotonic()
        with ExitStack() as open_ones:
            difuso = open_ones.enter_context(stack.difuso(model))
            start = time.monotonic() - begun
            client = open_ones.enter_context(redis.Redis.from_url(difuso.redis_url))
            claimed = statistics.median(claim_seconds(difuso, SAMPLES))
            alone = statistics.median(image_seconds(difuso, steps=1, count=SAMPLES))
            longer = statistics.median(image_seconds(difuso, steps=1 + STEPS, count=SAMPLES))
            idle = _watch(client, window)
            with _long_jobs(difuso, client, 1):
                one = _watch(client, window)
                rush = _rush(difuso, client)
            with _long_jobs(difuso, client, HELD):
                held = (_watch(client, window) - one) * (1 / (HELD - 1))
    half = max(0.0, alone - claimed - (longer - alone) / STEPS) / 2  # which half is which does not show
    costs = RedisCosts(idle, one - held, held, (rush.cost - one * rush.seconds) * (1 / JOBS))
    names = {name: count / JOBS for name, count in rush.calls.items()}
    return Probe(
        growing_costs(costs),
        Delays(claimed, half, half, rush.front_end / JOBS, start),
        {name: count for name, count in sorted(names.items(), key=lambda each: -each[1]) if count >= 0.5},
        rush.shares,
    )


def measure_steps(model: Path, *, threads: int | None, seconds: float = 0.5) -> Steps:
    """Measures the steps of a checkpoint on this CPU, in a process with so many threads."""
    environment = dict(stack.ENVIRONMENT)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", "benchmarks.fleet.probe", str(model), str(seconds)]
    found = subprocess.run(command, env=environment, cwd=stack.ROOT, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    exact = [bucket for bucket in figures["buckets"] if bucket["size"] in figures["exact"]]
    return Steps({bucket["size"]: bucket["size"] / bucket["rate"] for bucket in exact})


@dataclass(frozen=True)
class Rush:
    """Many short jobs beside a long one; `front_end` is the front end's CPU seconds."""

    cost: Cost
    seconds: float
    front_end: float
    calls: Mapping[str, int]
    shares: Mapping[str, float]


def _watch(client: redis.Redis, seconds: float) -> Cost:
    """Returns what Redis does in a second."""
    before, begun = read(client), time.monotonic()
    time.sleep(seconds)
    return read(client).since(before) * (1 / (time.monotonic() - begun))


def _rush(difuso: Difuso, client: redis.Redis) -> Rush:
    with ThreadPoolExecutor(CLIENTS) as pool, httpx.Client(base_url=difuso.url, timeout=120) as http:

        def post(seed: int) -> None:
            http.post("/generate", params={"n": 1, "steps": 1, "seed": seed}).raise_for_status()

        list(pool.map(post, range(CLIENTS)))  # connections are open now
        before, cpu, begun = read(client), _cpu_seconds(difuso.api_pid), time.monotonic()
        list(pool.map(post, range(JOBS)))
        after, seconds = read(client), time.monotonic() - begun
        used = _cpu_seconds(difuso.api_pid) - cpu
    calls = {name: count - before.calls.get(name, 0) for name, count in after.calls.items()}
    return Rush(after.since(before), seconds, used, calls, after.shares(before))


@contextmanager
def _long_jobs(difuso: Difuso, client: redis.Redis, count: int) -> Iterator[None]:
    """So many jobs in flight, each with a client that waits for it."""
    with httpx.Client(base_url=difuso.url, timeout=300) as http, ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(http.post, "/generate", params=LONG) for _ in range(count)]
        deadline = time.monotonic() + 60
        while len(running := _running(client)) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(running)} of {count} jobs run after a minute")
            time.sleep(0.05)
        yield
        for job_id in running:
            http.delete(f"/jobs/{job_id}").raise_for_status()
        wait(waiting)


def _running(client: redis.Redis) -> list[str]:
    entries: Any = client.zrange(f"rq:wip:{queue_name('tiny', DEFAULT_URGENCY)}", 0, -1)
    return [entry.decode().partition(":")[0] for entry in entries]


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    folder, seconds = sys.argv[1:]
    print(json.dumps(measure_buckets(Path(folder), "cpu", float(seconds))))
