"""A receiver of webhooks, which notes what it gets and answers as a test says."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Call(NamedTuple):
    """A request that came; header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """The calls that came, and the answers to the next ones; after these each is answered 204.

    Attributes:
        hangs: while it is clear, no call is answered.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: list[int] = []
        self.names: list[str | None] = []  # that clients asked for by TLS
        self.hangs = threading.Event()
        self.hangs.set()
        self.url = ""


@contextmanager
def receiving(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Receiver]:
    """Yields a receiver that listens on this machine, at one of its addresses or at all."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = receiver.answers.pop(0) if receiver.answers else 204
            receiver.calls.append(Call(self.path, {name.lower(): text for name, text in self.headers.items()}, body))
            receiver.hangs.wait(30)
            self.send_response(answer)
            self.send_header("Location", f"{receiver.url}elsewhere")
            self.send_header("Set-Cookie", "a=b")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a caller went away
    scheme = "http"
    if tls is not None:
        tls.sni_callback = lambda socket, name, context: receiver.names.append(name)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    receiver.url = f"{scheme}://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.hangs.set()
        server.shutdown()
        thread.join()
        server.server_close()
