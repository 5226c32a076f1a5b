"""Clients that watch a job, as pages and scripts do, at so little cost of their own that only the server's shows."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from threading import Event, Thread
from urllib.parse import urlsplit

from .stack import Difuso

POLLERS = 20
LISTENERS = 3


@contextmanager
def watching(difuso: Difuso, job_ids: Sequence[str]) -> Iterator[None]:
    """Twenty clients that each ask for a job once a second, and three that read its events and previews."""
    over = Event()
    address = urlsplit(difuso.url).netloc
    listeners = [_listen(address, job_ids[0]) for _ in range(LISTENERS)]
    poller = Thread(target=_poll, args=(address, job_ids, over), daemon=True)
    poller.start()
    try:
        yield
    finally:
        over.set()
        poller.join(30)
        for listener in listeners:
            if listener.sock is not None:
                listener.sock.close()
            listener.close()
    if poller.is_alive():
        raise SystemExit("the API does not answer polling clients")


def _poll(address: str, job_ids: Sequence[str], over: Event) -> None:
    """All pollers in one thread: one after the other, evenly over the second, each on its own connection."""
    connections = [http.client.HTTPConnection(address, timeout=10) for _ in range(POLLERS)]
    ids = cycle(job_ids)
    due = time.monotonic()
    for connection in cycle(connections):
        if over.wait(max(0.0, due - time.monotonic())):
            break
        connection.request("GET", f"/jobs/{next(ids)}")
        connection.getresponse().read()
        due += 1 / POLLERS
    for connection in connections:
        connection.close()


def _listen(address: str, job_id: str) -> http.client.HTTPConnection:
    """Reads a job's events in a thread of its own until the connection is closed."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", f"/jobs/{job_id}/events")
    response = connection.getresponse()

    def read() -> None:
        try:
            while response.read1():
                pass
        except (OSError, ValueError, AttributeError):
            return  # closed by us

    Thread(target=read, daemon=True).start()
    return connection
