"""The figures of a GPU, in one command and ten minutes: `make bench-gpu`.

For each network it measures a busy worker in each number format, the image-steps a second and the share of its time in
the network, and the capacity over HTTP compared with the peers'.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer

from difuso.model.folders.config import Precision

from . import busy, idle, machine, stack
from .models import ADM, CIFAR, PAPER, TINY, copy_model, random_model
from .report import Bar, Report, say, show
from .serving import NAMES, Contest, compare_capacity

LIMIT_SECONDS = 420.0  # when nothing more is begun, so that all ends within ten minutes


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/faces64"),
    device: Annotated[str, typer.Option(help="cuda, cuda:1 and so on.")] = "cuda",
    quick: Annotated[bool, typer.Option("--quick", help="A tiny network and short windows, to try it out.")] = False,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-gpu.json"),
) -> None:
    """Measures difuso on a GPU; at most ten minutes."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is usable here: `--device cpu --quick` tries this program out without one")
    machine.warn_if_busy()
    report = Report(out, {"device": device, "quick": quick})
    report.add("gpu", gpu_facts(device))
    seconds, begun = 2.0 if quick else 10.0, time.monotonic()
    parts: list[Callable[[Path, str, float, Report], None]] = [busy_worker, capacity]
    with tempfile.TemporaryDirectory() as folder:
        for part, path in product(parts, networks(Path(folder), model, quick)):
            title = f"{path.name}: {part.__name__}"
            if time.monotonic() > begun + LIMIT_SECONDS:
                say(f"{title} is left out: no time is left")
                report.add(f"{title} left out", True)
                continue
            say(title)
            part(path, device, seconds, report)
    report.close()


def networks(folder: Path, model: Path, quick: bool) -> list[Path]:
    """Makes the checkpoints, each alone in its parent folder, as a worker expects it."""
    if quick:
        return [random_model(folder / "a" / "tiny", TINY)]
    return [
        copy_model(model, folder / "a" / model.resolve().name),
        random_model(folder / "b" / "paper", PAPER),
        random_model(folder / "c" / "cifar", CIFAR),
        random_model(folder / "d" / "adm", ADM),
    ]


def gpu_facts(device: str) -> Mapping[str, Any]:
    """Returns the name and the properties of the GPU."""
    if not device.startswith("cuda"):
        return {"name": device}
    properties = torch.cuda.get_device_properties(torch.device(device))
    return {"name": properties.name, "memory_mb": properties.total_memory / 1e6, "cuda": torch.version.cuda}


def busy_worker(model: Path, device: str, seconds: float, report: Report) -> None:
    """Measures a worker process with full batches, in each number format."""
    for precision in get_args(Precision) if device.startswith("cuda") else ("float32", "bfloat16"):
        settings = {"DIFUSO_DEVICE": device, "DIFUSO_PRECISION": precision}
        with stack.difuso(model, **settings) as difuso, busy.full_batches(difuso):
            window = busy.measure(difuso, seconds)
            held = idle.resident(difuso)
        report.add(f"{model.name} in {precision}", asdict(window) | {"resident_mb": held})
        headings = ("image-steps/s", "images a call", "share in the network", "worker MB")
        figures = (window.rate, window.rows, window.share, held.get("worker", ""))
        show(f"busy worker: {model.name} in {precision}", headings, [figures])
        what = f"{model.name} in {precision}: share of a busy worker's time in the network"
        report.bar(Bar(what, 100 * window.share, 95, "%", "at least"))


def capacity(model: Path, device: str, seconds: float, report: Report) -> None:
    """Sends the loads of `benchmarks.serving`, more of them than each server can answer."""
    compare_capacity(Contest(model, device=device), NAMES, seconds, report)


if __name__ == "__main__":
    typer.run(main)
