"""Many images with one command while its client, worker and Redis are killed: is the file the undisturbed one?"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Annotated

import typer

from difuso.bulk import CHUNK
from difuso.supervisor.child_processes import ChildProcesses

from . import stack
from .chaos.cluster import Cluster, open_cluster
from .models import copy_model
from .report import Bar, Report, say

POLL_SECONDS = 0.2
TTL = 86400  # seconds; nothing may expire while the file is made


def main(
    images: Annotated[int, typer.Option("-n", help="Images of a file.")] = 50_000,
    steps: Annotated[int, typer.Option(help="Network calls for each image.")] = 4,
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/fashion32"),
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-bulk-kills.json"),
) -> None:
    """Draws one file here, and once more on a server, killing its client, worker and Redis with signal 9; an hour."""
    report = Report(out, {"images": images, "steps": steps, "model": str(model)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        served = copy_model(model, folder / "models" / model.resolve().name)
        sample = [sys.executable, "-P", "-m", "difuso", "sample", "--model", served.name, "--label", "all"]
        sample += ["--steps", str(steps), "-n", str(images), "--seed", "0", "--out"]
        say(f"{images} images without a server")
        environment = {**stack.ENVIRONMENT, "DIFUSO_MODELS_DIR": str(served.parent)}
        began = time.perf_counter()
        subprocess.run([*sample, str(folder / "here.npz")], env=environment, check=True)
        here = time.perf_counter() - began
        say(f"{images} images on a server whose processes are killed")
        began = time.perf_counter()
        killed = _draw_killed(sample, folder, served.parent, images)
        report.add("seconds", {"here": here, "killed": time.perf_counter() - began})
        report.add("killed", killed)
        same = (folder / "here.npz").read_bytes() == (folder / "there.npz").read_bytes()
    report.bar(Bar("files that differ", 0 if same else 1, 0, "", "at most"))
    report.close()


def _draw_killed(sample: list[str], folder: Path, models: Path, images: int) -> dict[str, int]:
    """Draws a file on a server; returns how many images were there when each process was killed."""
    there = folder / "there.npz"
    with (
        ChildProcesses() as children,
        open_cluster(
            children, models, folder / "store", apis=1, workers=1, ttl=TTL, worker=["difuso", "worker"]
        ) as cluster,
    ):
        over = Event()
        Thread(target=_keep, args=[cluster, over], daemon=True).start()
        command = [*sample, str(there), "--server", cluster.urls[0]]
        client = subprocess.Popen(command, env=stack.ENVIRONMENT)

        def kill_worker() -> None:
            cluster.workers[0].send(signal.SIGKILL)

        def kill_redis() -> None:
            cluster.signal_redis(signal.SIGKILL)
            cluster.restart_redis()

        victims: dict[str, Callable[[], None]] = {"client": client.kill, "worker": kill_worker, "redis": kill_redis}
        killed = {}
        for number, (victim, kill) in enumerate(victims.items(), start=1):
            killed[victim] = _wait_for(images * number // (len(victims) + 1), client, folder / f"{there.name}.parts")
            say(f"killing the {victim} at {killed[victim]} images")
            kill()
            if victim == "client":
                client.wait()
                client = subprocess.Popen(command, env=stack.ENVIRONMENT)
        if client.wait():
            raise SystemExit("the command that draws has failed; it says why above")
        over.set()
        return killed


def _keep(cluster: Cluster, over: Event) -> None:
    """Starts again who has ended, until it is over."""
    while not over.wait(POLL_SECONDS):
        cluster.revive()


def _wait_for(images: int, client: subprocess.Popen[bytes], parts: Path) -> int:
    """Returns the number of images on disk once there are so many."""
    while (there := CHUNK * len(list(parts.glob("[0-9]*.npy")))) < images:
        if client.poll() is not None:
            raise SystemExit("the command that draws has ended; it says why above")
        time.sleep(POLL_SECONDS)
    return there


if __name__ == "__main__":
    typer.run(main)
