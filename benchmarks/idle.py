"""An idle server: how fast it draws, how much memory it holds, how soon after its start it gives an image."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import torch

from model import load_checkpoint, networks_of

from . import stack
from .machine import resident_mb
from .stack import Difuso

SETTLE_SECONDS = 3.0
START_SECONDS = 120.0


def image_seconds(difuso: Difuso, *, steps: int, count: int) -> list[float]:
    """Returns the seconds from a POST to its image, one at a time, after two images that warm up."""
    found = []
    with httpx.Client(base_url=difuso.url, timeout=60) as client:
        for seed in range(2 + count):
            before = time.perf_counter()
            client.post(
                "/generate", params={"n": 1, "steps": steps, "sampler": "ddim", "seed": seed}
            ).raise_for_status()
            found.append(time.perf_counter() - before)
    return found[2:]


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
    """Returns the resident MB of each process after a first image."""
    httpx.post(f"{difuso.url}/generate", timeout=120).raise_for_status()
    time.sleep(SETTLE_SECONDS)
    return resident(difuso)


def resident(difuso: Difuso) -> dict[str, float]:
    """Returns the resident MB of each process now."""
    return {"api": resident_mb(difuso.api_pid), "worker": resident_mb(difuso.worker_pid)}


def first_picture_seconds(model: Path) -> float:
    """Returns the seconds from the start of `difuso serve` in an empty folder to a first image of 50 steps."""
    port = stack.free_port()
    with tempfile.TemporaryDirectory() as folder, httpx.Client(timeout=START_SECONDS) as client:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "difuso", "serve", "--port", str(port)],
            cwd=folder,
            env={**stack.ENVIRONMENT, "DIFUSO_MODELS_DIR": str(model.parent.resolve())},
        )
        try:
            while time.monotonic() < began + START_SECONDS and process.poll() is None:
                with contextlib.suppress(httpx.TransportError):  # it does not listen yet
                    answer = client.post(f"http://127.0.0.1:{port}/generate?n=1&steps=50")
                    if answer.status_code == 200:
                        return time.monotonic() - began
                time.sleep(0.05)
            raise SystemExit("difuso serve gave no image; it says why above")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()  # its orphan killer ends the others
                process.wait()
