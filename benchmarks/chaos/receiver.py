"""The receiver of all jobs' webhooks. It fails the first call of every fourth job, which then is to be called again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "whsec_" + "difusodifuso" * 4  # which nobody checks here


@dataclass
class Receiver:
    """Attributes: the address, and the ids of the jobs whose webhooks came and were taken, or were failed."""

    url: str = ""
    taken: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def answer(self, job_id: str) -> int:
        """Returns the status of the answer to a call."""
        if job_id[0] in "048c" and job_id not in self.failed:
            self.failed.add(job_id)
            return 500
        self.taken.add(job_id)
        return 204


@contextmanager
def open_receiver() -> Iterator[Receiver]:
    """Yields a receiver that listens on this machine, in threads."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(receiver.answer(self.headers["webhook-id"]))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()
