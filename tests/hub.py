"""A hub of models with the interface that huggingface_hub expects of huggingface.co, from folders on this disk."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
INFO = re.compile(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)")
TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """Repositories, and the requests for them.

    Attributes:
        url: the endpoint.
        repositories: a folder for each name.
        gated: the names of repositories whose files are refused.
        revisions: the revisions of every repository; all are one commit.
        downloads: the repository and file of each download.
        tokens: the tokens that came with requests.
    """

    url: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=lambda: {"main", COMMIT})
    downloads: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.tokens.add(self.headers.get("Authorization", ""))
            match = INFO.fullmatch(path) or TREE.fullmatch(path) or FILE.fullmatch(path)
            if match is None or match[1] not in hub.repositories:
                return self._send(404, error="RepoNotFound")
            name, revision = match[1], match[2]
            if revision not in hub.revisions:
                return self._send(404, error="RevisionNotFound")
            files = sorted(path for path in hub.repositories[name].rglob("*") if path.is_file())
            contents = {str(path.relative_to(hub.repositories[name])): path.read_bytes() for path in files}
            if INFO.fullmatch(path):
                return self._send_json({"id": name, "sha": COMMIT, "siblings": []})
            if TREE.fullmatch(path):
                listed = [
                    {"type": "file", "path": file, "size": len(content), "oid": _etag(content)}
                    for file, content in contents.items()
                ]
                return self._send_json(listed)
            if name in hub.gated:
                return self._send(403, error="GatedRepo")
            if match[3] not in contents:
                return self._send(404, error="EntryNotFound")
            if body:
                hub.downloads.append((name, match[3]))
            return self._send(200, contents[match[3]], body=body)

        def _send_json(self, content: object) -> None:
            self._send(200, json.dumps(content).encode())

        def _send(self, status: int, content: bytes = b"", *, error: str | None = None, body: bool = True) -> None:
            self.send_response(status)
            headers = {"Content-Length": str(len(content)), "ETag": f'"{_etag(content)}"', "X-Repo-Commit": COMMIT}
            headers |= {"X-Error-Code": error} if error else {}
            for header, value in headers.items():
                self.send_header(header, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
