"""What difuso costs in addition to its network: time of a busy worker, a lone image, memory, start."""

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from . import busy, idle, machine, stack
from .load import lone_seconds
from .models import TINY, copy_model, random_model
from .report import Bar, Report, say, show

PARTS = ("share", "alone", "crowded", "memory", "start")
START_REPEATS = 3
ALONE = {1: 100, 25: 15}  # steps of a lone image, and how often it is asked for


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/faces64"),
    tiny: Annotated[bool, typer.Option("--tiny", help="Small random networks in all places, to try it out.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Parts to run; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of one window under load.")] = 20.0,
    cores: Annotated[int, typer.Option(min=1, help="Cores that everything shares.")] = 2,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-overhead.json"),
) -> None:
    """Measures what difuso costs in addition to its network; about ten minutes."""
    if set(only or ()) - set(PARTS):
        raise typer.BadParameter(f"the parts are {', '.join(PARTS)}", param_hint="--only")
    machine.warn_if_busy()
    machine.use_cores(cores)
    report = Report(out, {"model": "tiny" if tiny else str(model), "seconds": seconds})
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        small = random_model(models / "small" / "tiny", TINY)
        served = small if tiny else copy_model(model, models / "served" / model.resolve().name)
        parts: Mapping[str, Callable[[], None]] = {
            "share": lambda: measure_share(served, 3 * seconds, report),
            "alone": lambda: measure_alone(served, report),
            "crowded": lambda: measure_crowded(served, report),
            "memory": lambda: measure_memory(served, report),
            "start": lambda: measure_start(small if tiny else model, report),
        }
        for name, part in parts.items():
            if not only or name in only:
                say(name)
                part()
    report.close()


def measure_share(model: Path, seconds: float, report: Report) -> None:
    """Measures the share of its time that a worker with full batches is inside the network."""
    with stack.difuso(model) as difuso, busy.full_batches(difuso):
        window = busy.measure(difuso, seconds)
    report.add("busy_worker", asdict(window))
    headings = ("seconds", "network calls", "images a call", "image-steps/s", "share in the network")
    show("busy worker", headings, [(window.seconds, window.calls, window.rows, window.rate, window.share)])
    report.bar(Bar("share of a busy worker's time in the network", 100 * window.share, 95, "%", "at least"))


def measure_alone(model: Path, report: Report) -> None:
    """Measures one image over HTTP on an idle server, and in a loop of the bare network with batches of one."""
    found = _lone_image_ms(model, "one image alone", report)
    report.bar(Bar("one image over HTTP, times the bare loop", found[25][0] / found[25][1], 1.3, "", "at most"))
    report.bar(Bar("one image of one step, more than its call", found[1][0] - found[1][1], 20, "ms", "at most"))


def measure_crowded(model: Path, report: Report) -> None:
    """Measures the same while another process keeps one of the cores busy."""
    with machine.a_busy_core():
        served, bare = _lone_image_ms(model, "one image next to a busy process", report)[25]
    report.bar(Bar("one image next to a busy process, times the bare loop", served / bare, 1, "", "at most"))


def _lone_image_ms(model: Path, title: str, report: Report) -> dict[int, tuple[float, float]]:
    """Returns the median milliseconds over HTTP and of the network alone, by the number of steps."""
    with stack.difuso(model, workers=None) as difuso:
        served = {steps: lone_seconds(difuso, steps=steps, count=count) for steps, count in ALONE.items()}
    bare = {steps: idle.network_seconds(model, calls=steps, count=count) for steps, count in ALONE.items()}
    found = {steps: (1000 * statistics.median(served[steps]), 1000 * statistics.median(bare[steps])) for steps in ALONE}
    report.add(title, found)
    show(f"{title}, ms", ("steps", "over HTTP", "bare loop"), [(steps, *pair) for steps, pair in found.items()])
    return found


def measure_memory(model: Path, report: Report) -> None:
    """Measures the memory of the processes after a first image, when they are idle."""
    with stack.difuso(model) as difuso:
        held = idle.memory(difuso)
    report.add("resident_mb", held)
    show("memory after a first image", ("process", "resident MB"), list(held.items()))
    report.bar(Bar("API, resident", held["api"], 130, "MB", "at most"))
    report.bar(Bar("worker, resident", held["worker"], 800, "MB", "at most"))


def measure_start(model: Path, report: Report) -> None:
    """Measures the time from `difuso serve` to an image, with all models of the folder as they ship."""
    found = [idle.first_image_seconds(model) for _ in range(START_REPEATS)]
    report.add("first_image_seconds", found)
    show("difuso serve to a first image of 50 steps", ("start", "seconds"), list(enumerate(found, 1)))
    report.bar(Bar("start to first image, median", statistics.median(found), 5, "s", "at most"))


if __name__ == "__main__":
    typer.run(main)
