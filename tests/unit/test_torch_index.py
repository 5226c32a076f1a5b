"""A machine without an NVIDIA GPU gets the small build of torch where it can be had, and another one where not."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from difuso import torch_index
from difuso.torch_index import CPU_INDEX, answers, choose

ROOT = Path(__file__).parents[2]


class Index(BaseHTTPRequestHandler):
    """A package index that has torch, below /cpu."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/cpu/torch/" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/cpu"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent_index() -> Iterator[str]:
    """Accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/cpu"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, index: str) -> pytest.MonkeyPatch:
    """A Linux machine without a GPU, on which nobody has said anything."""
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch_index, "has_nvidia", lambda: False)
    monkeypatch.setattr(torch_index, "CPU_INDEX", index)
    return monkeypatch


@pytest.mark.usefixtures("bare")
def test_without_a_gpu_it_is_the_index_for_cpus(index: str) -> None:
    assert choose() == index


def test_with_a_gpu_or_on_a_mac_it_is_pypi(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(torch_index, "has_nvidia", lambda: True)
    assert choose() == ""
    bare.setattr(torch_index, "has_nvidia", lambda: False)
    bare.setattr(sys, "platform", "darwin")
    assert choose() == ""


def test_where_the_index_has_no_torch_or_is_not_reached_it_is_pypi(bare: pytest.MonkeyPatch, index: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for other in (f"{index}/nothing", f"http://127.0.0.1:{closed.getsockname()[1]}", "no address"):
            bare.setattr(torch_index, "CPU_INDEX", other)
            assert choose() == "", other


def test_an_index_that_hangs_is_left(silent_index: str) -> None:
    assert not answers(silent_index, seconds=0.2)


@pytest.mark.parametrize("wanted", ["http://mirror.example/cpu", ""])
def test_what_is_set_is_taken_without_asking(bare: pytest.MonkeyPatch, wanted: str) -> None:
    bare.setenv("TORCH_INDEX", wanted)
    assert choose() == wanted


def test_make_can_ask_before_anything_is_installed() -> None:
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import difuso.torch_index"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)  # nothing but the standard library


def test_the_image_for_workers_has_the_same_index() -> None:
    assert f"ARG TORCH_INDEX={CPU_INDEX}\n" in (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
