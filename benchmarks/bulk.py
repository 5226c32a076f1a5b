"""Many images with one command: what a server costs compared with the command alone, and what other clients notice."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from . import machine, stack
from .models import copy_model
from .report import Bar, Report, quantile, say, show

PAUSE = 0.5  # seconds between two requests of a user who looks at each image
FIRST_PARTS = 4  # of the file exist before another client asks


def main(
    images: Annotated[int, typer.Option("-n", help="Number of images in a file.")] = 10_000,
    steps: Annotated[int, typer.Option(help="Network calls for each image.")] = 4,
    requests: Annotated[int, typer.Option(help="Requests for one image, of the idle server and meanwhile.")] = 60,
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/fashion32"),
    cores: Annotated[int, typer.Option(min=1, help="Cores that everything shares.")] = 2,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-bulk.json"),
) -> None:
    """Draws the same file without and with a server of one worker, and times single images meanwhile; ten minutes."""
    machine.warn_if_busy()
    machine.use_cores(cores)
    report = Report(out, {"images": images, "steps": steps, "requests": requests, "model": str(model)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        served = copy_model(model, folder / "models" / model.resolve().name)
        sample = [sys.executable, "-P", "-m", "difuso", "sample", "--model", served.name, "--label", "all"]
        sample += ["--steps", str(steps), "-n", str(images)]
        say(f"{images} images without a server")
        here = _seconds(sample, folder / "here.npz", served)
        with stack.difuso(served) as difuso:
            say(f"{images} images on a server")
            there = _seconds([*sample, "--server", difuso.url], folder / "there.npz", served)
            same = (folder / "here.npz").read_bytes() == (folder / "there.npz").read_bytes()
            idle = _waits(difuso.url, requests)
            say("single images meanwhile")
            busy = _waits_during([*sample, "--server", difuso.url], folder / "meanwhile.npz", difuso.url, requests)
    report.add("seconds", {"here": here, "served": there})
    report.add("single_images_ms", {"idle": idle, "busy": busy})
    rows = [(where, images / seconds, seconds) for where, seconds in (("here", here), ("on the server", there))]
    show(f"{images} images", ("drawn", "images/s", "seconds"), rows)
    waits = (("idle", idle), ("busy", busy))
    rows = [(when, statistics.median(found), quantile(found, 0.95)) for when, found in waits]
    show("one image of the defaults, ms", ("server", "median", "p95"), rows)
    report.bar(Bar("files that differ", 0 if same else 1, 0, "", "at most"))
    report.bar(Bar("images a second of the server against those without one", here / there, 0.9, "times", "at least"))
    slower = quantile(busy, 0.95) / quantile(idle, 0.95)
    report.bar(Bar("p95 of single images against that of an idle server", slower, 2, "times", "at most"))
    report.close()


def _seconds(command: list[str], out: Path, model: Path) -> float:
    """Returns the seconds that the whole command takes, its start included."""
    began = time.perf_counter()
    environment = {**stack.ENVIRONMENT, "DIFUSO_MODELS_DIR": str(model.parent)}
    subprocess.run([*command, "--seed", "0", "--out", str(out)], env=environment, check=True)
    return time.perf_counter() - began


def _waits(url: str, count: int) -> list[float]:
    """Returns the milliseconds that each of `count` single images takes."""
    found = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for seed in range(count):
            began = time.perf_counter()
            client.post("/generate", params={"seed": seed, "label": "0"}).raise_for_status()
            found.append(1000 * (time.perf_counter() - began))
            time.sleep(PAUSE)
    return found


def _waits_during(command: list[str], out: Path, url: str, count: int) -> list[float]:
    """Returns the times of single images while a command draws on the same server, with seeds new to the server."""
    process = subprocess.Popen([*command, "--seed", "1000000", "--out", str(out)], env=stack.ENVIRONMENT)
    parts = out.with_name(f"{out.name}.parts")
    while len(list(parts.glob("[0-9]*.npy"))) < FIRST_PARTS:
        if process.poll() is not None:
            raise SystemExit("the command that draws has ended; it says why above")
        time.sleep(0.1)
    found = _waits(url, count)
    if process.poll() is not None:
        raise SystemExit("all images were drawn before the requests ended: take a larger -n")
    process.terminate()
    process.wait()
    return found


if __name__ == "__main__":
    typer.run(main)
