"""A network alone, and an idle server: how much memory it holds, how soon after its start it gives an image."""

import contextlib
import re
import sys
import time
from pathlib import Path

import httpx
import torch

from difuso.model import load_checkpoint, networks_of
from difuso.supervisor.child_processes import ChildProcesses

from . import stack
from .stack import Difuso

SETTLE_SECONDS = 3.0
START_SECONDS = 120.0
RESIDENT = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


@torch.inference_mode()
def network_seconds(model: Path, *, calls: int, count: int) -> list[float]:
    """Returns the seconds of `calls` calls of a network alone, with one image each; after one round that warms up."""
    checkpoint = load_checkpoint(model)
    checkpoint.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = networks_of(checkpoint)["denoiser"]
    x = torch.zeros(1, *checkpoint.config.shape).contiguous(memory_format=torch.channels_last)
    found = []
    for _ in range(1 + count):
        before = time.perf_counter()
        for _ in range(calls):
            network(x, torch.full((1,), 500.0))
        found.append(time.perf_counter() - before)
    return found[1:]


def memory(difuso: Difuso) -> dict[str, float]:
    """Returns the resident MB (10^6 bytes) of the API and the first worker after a first image."""
    httpx.post(f"{difuso.url}/generate", timeout=120).raise_for_status()
    time.sleep(SETTLE_SECONDS)
    return resident(difuso)


def resident(difuso: Difuso) -> dict[str, float]:
    """Returns the resident MB of the API and the first worker now, as they report it on Linux."""
    pages = {"api": f"{difuso.url}/metrics", "worker": difuso.metrics_url}
    found = {name: RESIDENT.search(httpx.get(url).raise_for_status().text) for name, url in pages.items()}
    return {name: float(match[1]) / 1e6 for name, match in found.items() if match}


def first_image_seconds(model: Path) -> float:
    """Returns the seconds from the start of `difuso serve` in an empty folder to a first image of 50 steps."""
    port = stack.free_port()
    with ChildProcesses() as children, httpx.Client(timeout=START_SECONDS) as client:
        began = time.monotonic()
        environment = {"DIFUSO_MODELS_DIR": str(model.parent.resolve()), "DIFUSO_STATE_DIR": str(children.folder)}
        command = [sys.executable, "-P", "-m", "difuso", "serve", "--port", str(port)]
        process = children.spawn(command, env={**stack.ENVIRONMENT, **environment})
        while time.monotonic() < began + START_SECONDS and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):  # it does not listen yet
                if client.post(f"http://127.0.0.1:{port}/generate?n=1&steps=50").status_code == 200:
                    return time.monotonic() - began
            time.sleep(0.05)
    raise SystemExit("difuso serve gave no image; it says why above")
