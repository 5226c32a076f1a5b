"""A busy worker, as its own counters show it.

Windows begin and end where a network call ends. A call may take seconds, and half a call would falsify the share.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from .stack import Difuso

JOBS, IMAGES, STEPS = 16, 32, 1000  # more work than any window is long; as many images as a GPU has slots
POLL_SECONDS = 0.01
STEP_SECONDS = 120.0  # a network call that takes longer hangs
NAMES = ("denoise_step_seconds_count", "denoise_step_seconds_sum", "image_steps_total")
SERIES = re.compile(rf"^difuso_({'|'.join(NAMES)})\{{.*\}} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Counters:
    """A worker's counters at a moment, right after a network call."""

    at: float
    calls: float
    network_seconds: float
    image_steps: float


@dataclass(frozen=True)
class Window:
    """A worker's work in a span of time.

    Attributes:
        share: the share of the time inside the network.
        rate: image-steps a second.
        rows: the mean number of images in a network call.
    """

    seconds: float
    calls: int
    share: float
    rate: float
    rows: float


def measure(difuso: Difuso, seconds: float) -> Window:
    """Watches a busy worker for at least `seconds` and at least two network calls."""
    with httpx.Client(timeout=10) as client:
        begin = _after_step(client, difuso)
        time.sleep(seconds)
        end = _after_step(client, difuso)
    span, calls, image_steps = end.at - begin.at, end.calls - begin.calls, end.image_steps - begin.image_steps
    network_seconds = end.network_seconds - begin.network_seconds
    return Window(span, int(calls), network_seconds / span, image_steps / span, image_steps / calls)


@contextmanager
def full_batches(difuso: Difuso) -> Iterator[None]:
    """Keeps the worker's batch full by long jobs, and cancels them in the end."""
    with httpx.Client(base_url=difuso.url, timeout=30) as client:
        ids = [_post(client) for _ in range(JOBS)]
        yield
        for job_id in ids:
            client.delete(f"/jobs/{job_id}")


def _post(client: httpx.Client) -> str:
    query = f"n={IMAGES}&steps={STEPS}&sampler=ddim"
    answer = client.post(f"/generate?{query}", headers={"Prefer": "respond-async"}).raise_for_status()
    job_id: str = answer.json()["id"]
    return job_id


def _after_step(client: httpx.Client, difuso: Difuso) -> Counters:
    """Returns the counters as soon as one more network call has ended."""
    first = _read(client, difuso)
    deadline = time.monotonic() + STEP_SECONDS
    while (now := _read(client, difuso)).calls == first.calls:
        if time.monotonic() > deadline:
            raise SystemExit(f"the worker is not busy: no network call in {STEP_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return now


def _read(client: httpx.Client, difuso: Difuso) -> Counters:
    text = client.get(difuso.metrics_url).raise_for_status().text
    sums = dict.fromkeys(NAMES, 0.0)
    for name, value in SERIES.findall(text):
        sums[name] += float(value)  # one series for each batch size
    return Counters(time.monotonic(), *sums.values())
