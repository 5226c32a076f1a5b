"""A server in difuso's place that says what it likes: by default the truth, of which tests spoil one part."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from tests.pictures import saved

# Title, colour and clipboard by ESC; CSI as one character, the other direction, markup, a lone surrogate, a return.
EVIL = "\x1b]0;owned\x07\x1b[31m\x1b]52;c;eA==\x07\x9b2J\u202e\u2066[/red][bold]\ud800\rdifuso: pay\x00../../evil"
ID = "5f0c0000-0000-0000-0000-000000000000"
SIDE = 16
PARAMS = {
    "sampler": "ddim",
    "steps": 2,
    "spacing": "leading",
    "eta": 0.0,
    "variance": "fixed_small",
    "clip": "static",
    "n": 2,
    "seed": 7,
}
TASKS: dict[str, Any] = {
    "generate": None,
    "denoise": {"kind": "denoise", "sigma": 20.0, "depth": 100},
    "restore": {"kind": "restore", "task": "colorize"},
    "upscale": {"kind": "upscale", "augmentation": 0.0},
    "interpolate": {"kind": "interpolate", "shares": [0.25, 0.5], "depth": 500},
}
MODEL = {
    "name": "tiny",
    "state": "ready",
    "workers": 1,
    "image_size": SIDE,
    "channels": 3,
    "num_train_timesteps": 1000,
    "prediction": "v",
    "defaults": {"sampler": "ddim", "steps": 2, "spacing": "leading"},
    "conditions": {"hair": {"type": "choice", "null": True, "values": ["bun", "afro"]}},
    "version": "ab" * 32,
    "precision": "float32",
    "about": "A model.",
}
PNGS = [saved(Image.new("RGB", (SIDE, SIDE), (level, 0, 0)), "PNG") for level in (1, 2)]


def facts_of(kind: str, state: str) -> dict[str, Any]:
    path = f"/jobs/{ID}"
    links = {"self": path, "events": f"{path}/events", "image": f"{path}/image", "images": [f"{path}/images/0"]}
    facts = {"id": ID, "kind": kind, "model": "tiny", "state": state, "params": PARAMS, "tag": "few", "links": links}
    return facts if TASKS[kind] is None else {**facts, "task": TASKS[kind]}


def truth(kind: str, count: int = 2) -> dict[str, Any]:
    """What difuso says about a job of a kind, by name; its archive has so many images."""
    price = {"kind": kind, "model": "tiny", "image_steps": 4, "images": 2, "seconds": 1.5, "eta_seconds": 2.5}
    images = [{"file": f"{index}.png"} for index in range(count)]
    return {
        "models": {"default": "tiny", "models": [MODEL, {"name": "Bad", "state": "refused", "reason": "No."}]},
        "price": {**price, "params": PARAMS, "task": TASKS[kind], "cost": 4, "stored_bytes": 1000},
        "job": facts_of(kind, "queued"),
        "progress": {"state": "running", "steps": {"done": 1, "total": 4}, "position": 0, "eta_seconds": 1.0},
        "preview": {"index": 0, "image_steps": 1, "png": "iVBORw0KGgo="},
        "ended": facts_of(kind, "succeeded"),
        "manifest": {"version": "ab" * 32, "precision": "float32", "images": images},
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the places of all parts of a value of JSON; () is the whole."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*path, name))


def spoiled(value: Any, path: tuple[Any, ...], evil: Any) -> Any:
    """Returns a copy of a value of JSON with something else at a place."""
    if not path:
        return evil
    found = deepcopy(value)
    part = found
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = evil
    return found


def stored(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Returns a zip of files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def npz_of(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


class Answer:
    """An answer of HTTP, with any head."""

    def __init__(
        self,
        body: Any,
        media_type: str = "application/json",
        *,
        status: int = 200,
        reason: str = "OK",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.reason = reason
        self.headers = {"Content-Type": media_type, "Content-Length": str(len(self.body)), **(headers or {})}


class Hostile:
    """What a server says; tests change its attributes.

    Attributes:
        said: all that `truth` names.
        archive, npz: the images of a job.
        instead: returns the answer to a method and a path in place of the usual one, or None for that.
        asked: the requests: method, path and headers.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.reset("generate")

    def reset(self, kind: str, count: int = 2) -> None:
        """Says the truth again, about a job of a kind; see `truth`."""
        self.said = truth(kind, count)
        self.files = self.said["manifest"]["images"]
        self.archive: bytes | None = None
        pixels = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (1, 2)])
        self.npz = npz_of(arr_0=pixels, x_t=np.zeros((2, 1, SIDE, SIDE, 3), np.float32))
        self.instead: Callable[[str, str], Answer | None] = lambda method, path: None

    def say(self, answer: Answer, part: str) -> None:
        """Gives this answer to requests with such a part of a path, and the truth to all others."""
        self.reset("generate")
        self.instead = lambda method, path: answer if part in path else None

    def answer(self, method: str, path: str, accept: str) -> Answer:
        """Returns the answer to a request."""
        if (other := self.instead(method, path)) is not None:
            return other
        if path == "/models":
            return Answer(self.said["models"])
        if method == "POST":
            return Answer(self.said["price" if "dry_run" in path else "job"], status=202)
        if path.endswith("/events"):
            events = (("progress", "progress"), ("preview", "preview"), ("succeeded", "ended"))
            lines = [f"event: {name}\ndata: {json.dumps(self.said[said])}\n\n" for name, said in events]
            return Answer("".join(lines).encode(), "text/event-stream")
        if path.endswith("/image"):
            if "npz" in accept:
                return Answer(self.npz, "application/x-npz")
            files = {each["file"]: PNGS[index % 2] for index, each in enumerate(self.files)}
            manifest = json.dumps(self.said["manifest"]).encode()
            return Answer(self.archive or stored({**files, "manifest.json": manifest}), "application/zip")
        return Answer(self.said["ended"])


@contextmanager
def hostile_server() -> Iterator[Hostile]:
    """Runs such a server on this machine."""
    hostile = Hostile()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hostile.asked.append((self.command, self.path, dict(self.headers.items())))
            answer = hostile.answer(self.command, self.path, self.headers.get("Accept", ""))
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hostile.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hostile
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
