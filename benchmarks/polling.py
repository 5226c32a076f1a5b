"""Clients that watch a job, as pages and scripts do, and cost so little that the figures show the server's cost.

They speak HTTP by hand: with a client library they would take a quarter as much time as the server, on the same cores.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from threading import Event, Thread
from urllib.parse import urlsplit

from .stack import Difuso

POLLERS = 20
LISTENERS = 3
TIMEOUT_SECONDS = 10
HEAD = re.compile(rb"HTTP/1\.1 200 .*?\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL | re.IGNORECASE)


@contextmanager
def watching(difuso: Difuso, job_ids: Sequence[str]) -> Iterator[None]:
    """Runs twenty clients that each ask for a job once a second, and three that read its events and previews."""
    over = Event()
    with ExitStack() as stack:
        pollers, listeners = (
            [stack.enter_context(_connect(difuso.url)) for _ in range(count)] for count in (POLLERS, LISTENERS)
        )
        for listener in listeners:
            _ask(listener, f"/jobs/{job_ids[0]}/events")
            Thread(target=_read_on, args=(listener,), daemon=True).start()
        polling = stack.enter_context(ThreadPoolExecutor(1)).submit(_poll, pollers, job_ids, over)
        try:
            yield
        finally:
            over.set()
        polling.result(2 * TIMEOUT_SECONDS)


def _poll(connections: Sequence[socket.socket], job_ids: Sequence[str], over: Event) -> None:
    """Runs all pollers in one thread, one after the other and evenly over the second, each on its own connection."""
    due = time.monotonic()
    for connection, job_id in zip(cycle(connections), cycle(job_ids), strict=False):
        if over.wait(max(0.0, due - time.monotonic())):
            return
        _ask(connection, f"/jobs/{job_id}")
        _read_answer(connection)
        due += 1 / len(connections)


def _connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_SECONDS)


def _ask(connection: socket.socket, path: str) -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def _read_answer(connection: socket.socket) -> None:
    """Reads one whole answer, whose status must be good."""
    answer, head = b"", None
    while head is None or len(answer) < head.end() + int(head[1]):
        received = connection.recv(65536)
        answer += received
        if not received or not b"HTTP/1.1 200".startswith(answer[:12]):
            raise SystemExit(f"a polling client was answered {answer[:80]!r}")
        head = HEAD.match(answer)


def _read_on(connection: socket.socket) -> None:
    """Reads events until either side closes the connection."""
    try:
        while connection.recv(65536):
            pass
    except OSError:
        return
