"""Clients that dawdle, hundreds at a time: how soon they are cut off, and whether others notice them.

There are those whose request's head never ends, those whose body never ends, and those that never read their answers.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Annotated
from urllib.parse import urlsplit

import typer

from . import machine, stack
from .models import TINY, random_model
from .report import Bar, Report, quantile, say, show
from .stack import Difuso

PATIENCE_SECONDS = 60.0
PROBE_SECONDS = 0.1
DRIP_SECONDS = 1.0
ARRIVALS = 100  # clients a second: a crowd that comes at once would be another experiment
# Small segments and buffers, as across a network: on one machine the system itself would take all of an answer.
SEGMENT = 536
RECEIVE_BUFFER = 2048

HEADS = b"GET /healthz HTTP/1.1\r\nX-Slow: "
BODIES = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
ANSWERS = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
KINDS = {"heads": HEADS, "bodies": BODIES, "answers": ANSWERS}


@dataclass(frozen=True)
class Siege:
    """What slow clients did; seconds.

    Attributes:
        cut_after: when the last was cut off, since it had connected.
        median, p99, longest: waits of others for /healthz meanwhile, each on a connection of its own.
    """

    cut_after: float
    median: float
    p99: float
    longest: float


def main(
    clients: Annotated[int, typer.Option(min=1, max=800, help="Of each kind, one kind after the other.")] = 500,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-slow-clients.json"),
) -> None:
    """Measures what slow clients can do to the API; about two minutes, and only on Linux."""
    machine.warn_if_busy()
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    report, found = Report(out, {"clients": clients}), {}
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "models" / "tiny", TINY)
        for kind in KINDS:
            say(f"{clients} slow {kind}")
            with stack.difuso(model) as difuso:
                found[kind] = siege = besiege(difuso, clients, kind)
            report.add(kind, asdict(siege))
            report.bar(Bar(f"the last of {clients} slow {kind} cut off after", siege.cut_after, 30, "s", "at most"))
            report.bar(Bar(f"/healthz beside slow {kind}, longest wait", 1000 * siege.longest, 100, "ms", "at most"))
    headings = ("slow", "last cut off after s", "/healthz median ms", "p99", "longest")
    rows = [(kind, s.cut_after, 1000 * s.median, 1000 * s.p99, 1000 * s.longest) for kind, s in found.items()]
    show(f"{clients} slow clients", headings, rows)
    report.close()


def besiege(difuso: Difuso, clients: int, kind: str) -> Siege:
    """Lets clients dawdle until the API has closed all their connections.

    Each begins a request; those that are not done with it send one more byte every second.
    """
    with ExitStack() as stack, _probing(difuso.url) as waits:
        crowd = []
        for _ in range(clients):
            crowd.append(stack.enter_context(dawdler(difuso.url, KINDS[kind])))
            time.sleep(1 / ARRIVALS)
        began = time.monotonic()
        say(f"{connections(difuso.url)} are connected at once")
        while (left := connections(difuso.url)) > 1:  # the probe's
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise SystemExit(f"{left} clients are still there after {PATIENCE_SECONDS:.0f} s")
            for client in crowd if kind != "answers" else ():
                with contextlib.suppress(OSError):  # it was cut off
                    client.send(b"x")
            time.sleep(DRIP_SECONDS)
        cut_after = time.monotonic() - began
    return Siege(cut_after, statistics.median(waits), quantile(waits, 0.99), max(waits))


def dawdler(url: str, start: bytes) -> socket.socket:
    """A connection on which a request was begun, or made."""
    address = urlsplit(url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    client.connect((address.hostname, address.port))
    client.setblocking(False)
    client.send(start)
    return client


def connections(url: str) -> int:
    """Those that the server holds open: a client that reads nothing does not hear of the end."""
    port, held = f":{urlsplit(url).port:04X}", 0
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, _, _, _, _, inode, *_ = row.split()
        held += local.endswith(port) and not remote.endswith(":0000") and inode != "0"
    return held


@contextmanager
def _probing(url: str) -> Iterator[list[float]]:
    """Asks for /healthz ten times a second, as a monitor does; yields the waits so far."""
    waits: list[float] = []
    over = Event()

    def probe() -> None:
        address = urlsplit(url)
        while not over.wait(PROBE_SECONDS):
            began = time.perf_counter()
            with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_SECONDS) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                    raise SystemExit("/healthz was refused")
            waits.append(time.perf_counter() - began)

    thread = Thread(target=probe)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    typer.run(main)
