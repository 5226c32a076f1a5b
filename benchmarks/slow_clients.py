"""Clients that mean no good: how soon those that dawdle are cut off, and whether others notice any of them.

There are those whose request's head never ends, those whose body never ends, and those that never read their answers,
hundreds at a time; and in smaller numbers those that send bodies in chunks of one byte, as fast as they may, and those
that ask for long animations all at once.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer

from model import ModelConfig

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

STORM_SECONDS = 30.0
CRUMBLERS = 16
CRUMB_BYTES = 800_000  # a second that each of them sends
TICK_SECONDS = 0.02
CRUMBS_HEAD = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
CRUMB = b"1\r\nx\r\n"
READERS = 50
ANIMATED = ModelConfig(network=TINY.network, image_size=64, defaults=TINY.defaults)

HEADS = b"GET /healthz HTTP/1.1\r\nX-Slow: "
BODIES = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
ANSWERS = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
KINDS = {"heads": HEADS, "bodies": BODIES, "answers": ANSWERS}


@dataclass(frozen=True)
class Siege:
    """What slow clients did; seconds.

    Attributes:
        cut_after: when the last was cut off, since it had connected; None where that is not the question.
        median, p99, longest: waits of others for /healthz meanwhile, each on a connection of its own.
    """

    cut_after: float | None
    median: float
    p99: float
    longest: float


def main(
    clients: Annotated[int, typer.Option(min=1, max=800, help="Of each slow kind, one kind after the other.")] = 500,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-slow-clients.json"),
) -> None:
    """Measures what such clients can do to the API; about three minutes, and only on Linux."""
    machine.warn_if_busy()
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    report, found = Report(out, {"clients": clients}), {}
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "models" / "tiny", TINY)
        for kind in KINDS:
            say(f"{clients} slow {kind}")
            with stack.difuso(model) as difuso:
                found[kind] = siege = besiege(difuso, clients, kind)
            if siege.cut_after is not None:
                report.bar(Bar(f"the last of {clients} slow {kind} cut off after", siege.cut_after, 30, "s", "at most"))
        animated = random_model(Path(folder) / "animated" / "animated", ANIMATED)
        for name, attack in {"crumbs": crumble, "animations": read_animations}.items():
            say(name)
            with stack.difuso(animated) as difuso:
                found[name] = attack(difuso)
    for name, siege in found.items():
        report.add(name, asdict(siege))
        report.bar(Bar(f"/healthz beside {name}, p99", 1000 * siege.p99, 100, "ms", "at most"))
    headings = ("attack", "last cut off after s", "/healthz median ms", "p99", "longest")
    rows = [(name, s.cut_after or "-", 1000 * s.median, 1000 * s.p99, 1000 * s.longest) for name, s in found.items()]
    show(f"{clients} slow clients of each kind, {CRUMBLERS} with crumbs, {READERS} with animations", headings, rows)
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
    return _siege(waits, cut_after)


def crumble(difuso: Difuso) -> Siege:
    """Lets a few clients send bodies of one-byte chunks, and connect anew when they are cut off."""
    with _elsewhere(_crumble, difuso.url), _probing(difuso.url) as waits:
        time.sleep(STORM_SECONDS)
    return _siege(waits)


def read_animations(difuso: Difuso) -> Siege:
    """Lets many ask at once, and again and again, for the animation of a job of 64 pictures of 64x64."""
    made = httpx.post(f"{difuso.url}/generate?n=64&steps=1", headers={"Prefer": "respond-async"}).json()
    image = f"{difuso.url}/jobs/{made['id']}/image"
    while httpx.get(image).status_code != 200:
        time.sleep(DRIP_SECONDS)
    with _elsewhere(_read, image), _probing(difuso.url) as waits:
        time.sleep(STORM_SECONDS)
    return _siege(waits)


def _crumble(url: str) -> None:
    address, crumbs = urlsplit(url), CRUMB * int(CRUMB_BYTES * TICK_SECONDS / len(CRUMB))
    clients: list[socket.socket | None] = [None] * CRUMBLERS
    while True:
        began = time.monotonic()
        for index, client in enumerate(clients):
            try:
                if client is None:
                    client = clients[index] = socket.create_connection((address.hostname, address.port))
                    client.sendall(CRUMBS_HEAD)
                    client.setblocking(False)
                client.send(crumbs)
            except BlockingIOError:
                pass
            except OSError:
                clients[index] = None
        time.sleep(max(0.0, began + TICK_SECONDS - time.monotonic()))


def _read(image: str) -> None:
    def read() -> None:
        while True:
            httpx.get(image, headers={"Accept": "image/apng"}, timeout=PATIENCE_SECONDS)

    with ThreadPoolExecutor(READERS) as pool:
        for _ in range(READERS):
            pool.submit(read)


@contextmanager
def _elsewhere(attack: Callable[[str], None], url: str) -> Iterator[None]:
    """Runs it in a process of its own, so that it takes nothing from whoever measures but the processor."""
    process = get_context("spawn").Process(target=attack, args=(url,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _siege(waits: list[float], cut_after: float | None = None) -> Siege:
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
