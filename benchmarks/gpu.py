"""The figures of a GPU, in one command and ten minutes: `make bench-gpu`.

For each network it measures the image-steps a second by batch size, the sizes that agree bit for bit, the speed and the
error of each way to compute the network, the share of a busy worker's time in the network, the capacity over HTTP
compared with the peers', and how soon an idle worker claims a job.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from worker.stepping.runner import CPU_SLOTS, GPU_SLOTS

from . import busy, idle, machine, stack
from .buckets import measure_buckets
from .models import ADM, CIFAR, PAPER, TINY, copy_model, random_model
from .report import Bar, Report, say, show
from .serving import NAMES, Contest
from .ways import measure_ways

LIMIT_SECONDS = 420.0  # when nothing more is begun, so that all ends within ten minutes
CLAIMS = 50
BUCKET = ("size", "rate", "call_ms", "between_ms", "share")
NO_GPU = "no CUDA device is usable here. `--device cpu --quick` tries this program out without one"


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/faces64"),
    device: Annotated[str, typer.Option(help="cuda, cuda:1 and so on.")] = "cuda",
    quick: Annotated[bool, typer.Option("--quick", help="A tiny network and short windows, to try it out.")] = False,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-gpu.json"),
) -> None:
    """Measures difuso on a GPU; at most ten minutes."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(NO_GPU)
    report = Report(out, {"device": device, "quick": quick})
    report.add("gpu", gpu_facts(device))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(report, device, 2.0 if quick else 10.0)
        models = networks(Path(folder), model, quick)
        parts = [(f"{path.name}: {part.__name__}", part, path) for part in trial.parts for path in models]
        for title, part, path in parts:
            if time.monotonic() > begun + LIMIT_SECONDS:
                say(f"{title} is left out: no time is left")
                report.add(f"{title} left out", True)
                continue
            say(title)
            part(path)
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


class Trial:
    """The parts of a run; each takes a checkpoint's folder.

    Args:
        report: where the figures go.
        device: the device that is measured.
        seconds: the length of one window.
    """

    def __init__(self, report: Report, device: str, seconds: float) -> None:
        self._report = report
        self._device = device
        self._seconds = seconds
        self.parts: list[Callable[[Path], None]] = [self.batch_sizes, self.busy_worker, self.capacity, self.ways]

    def batch_sizes(self, model: Path) -> None:
        """Measures the runner alone."""
        figures = measure_buckets(model, self._device, self._seconds / 3)
        self._report.add(f"{model.name} batch sizes", figures)
        rows = [
            (*(bucket[each] for each in BUCKET), bucket["size"] in figures["exact"]) for bucket in figures["buckets"]
        ]
        show(
            model.name,
            ("batch", "image-steps/s", "ms a call", "ms between calls", "share in the network", "exact"),
            rows,
        )

    def ways(self, model: Path) -> None:
        """Measures the network alone, in full batches."""
        where = torch.device(self._device)
        found = measure_ways(model, where, CPU_SLOTS if where.type == "cpu" else GPU_SLOTS)
        self._report.add(f"{model.name} ways", [asdict(way) for way in found])
        headings = ("way", "ms a call", "of the float32 GEMM rate", "largest error")
        show(
            f"{model.name}: ways to compute", headings, [(way.name, way.ms, way.gemm_share, way.error) for way in found]
        )

    def busy_worker(self, model: Path) -> None:
        """Measures a worker process with full batches, then idle."""
        with stack.difuso(model, device=self._device) as difuso:
            with busy.work_for(difuso, self._seconds):
                window = busy.measure(difuso, self._seconds)
            waits = [1000 * wait for wait in idle.claim_seconds(difuso, CLAIMS)]
            held = idle.resident(difuso)
        claim = statistics.median(waits)
        self._report.add(f"{model.name} busy worker", asdict(window) | {"claim_ms": claim, "resident_mb": held})
        headings = ("model", "image-steps/s", "images a call", "share in the network", "claim ms", "worker MB")
        show("busy worker", headings, [(model.name, window.rate, window.rows, window.share, claim, held["worker"])])
        self._report.bar(
            Bar(f"{model.name}: share of a busy worker's time in the network", 100 * window.share, 95, "%", "at least")
        )
        self._report.bar(Bar(f"{model.name}: POST to claimed, median", claim, 10, "ms", "at most"))

    def capacity(self, model: Path) -> None:
        """Sends the mix of `benchmarks.serving`, more of it than each server can answer."""
        contest = Contest(model, device=self._device)
        found = {name: contest.capacity(name, self._seconds)[0] for name in NAMES}
        self._report.add(f"{model.name} capacity", found)
        rates = {name: figures["image_steps_per_second"] for name, figures in found.items()}
        show(f"{model.name}: capacity over HTTP", ("server", "image-steps/s"), list(rates.items()))
        best = max(rate for name, rate in rates.items() if name != "difuso")
        self._report.bar(
            Bar(f"{model.name}: capacity against the best peer's", rates["difuso"] / best, 1.0, "times", "at least")
        )


if __name__ == "__main__":
    machine.warn_if_busy()
    typer.run(main)
