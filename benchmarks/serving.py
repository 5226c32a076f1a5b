"""difuso and two other servers: the same weights, the same cores, the same requests, in one run.

First comes each server's capacity, with more requests than it can answer. Then come jobs of one step: one alone, and as
many as the server can answer, with the processor time that each takes. At last comes the
time that short and long requests take when they arrive at random, at 70 % of the better peer's capacity. Servers run
one after the other.
"""

import asyncio
import io
import itertools
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from difuso.model.folders.config import Precision

from . import machine, stack
from .load import MEAN_IMAGE_STEPS, Order, Outcome, fetch, lone_seconds, mix, poisson, saturate, send_open
from .models import TINY, copy_model, random_model
from .report import Bar, Report, quantile, say, show
from .stack import System

NAMES = ("difuso", "lock", "litserve")
CLIENTS = 16  # twice what LitServe takes at a time, so that its batches are full
PATIENCE_SECONDS = 60.0
LOAD, SEED = 0.7, 0
PROBES = (Order(1, 10, seed=7), Order(4, 10, seed=8))
MIXED, ONE_STEP = "image_steps_per_second", "jobs_of_one_step_per_second"
LONE, LONE_MS = 60, "one_step_alone_ms"


@dataclass(frozen=True)
class Contest:
    """The common facts of all servers.

    Attributes:
        model: a checkpoint's folder, alone in its parent.
        workers: the number of our workers, which share the cores; None for as many as `difuso serve` starts.
    """

    model: Path
    device: str = "cpu"
    workers: int | None = None

    def open(self, name: str) -> AbstractContextManager[System]:
        """Starts a server."""
        if name == "difuso":
            return stack.difuso(self.model, workers=self.workers, DIFUSO_DEVICE=self.device)
        return stack.peer(name, self.model, device=self.device)

    def capacity(self, name: str, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Returns the image-steps a second of one server, and an image, to compare what the servers compute."""
        say(f"{name}: capacity, two times {seconds:.0f} s")
        figures: dict[str, Any] = {}
        with self.open(name) as system:
            image, _ = [asyncio.run(fetch(system, order, timeout=PATIENCE_SECONDS)) for order in PROBES]
            figures[LONE_MS] = 1000 * statistics.median(lone_seconds(system, steps=1, count=LONE))
            one_step = (Order(1, 1, seed) for seed in itertools.count())
            for what, orders in ((MIXED, mix(SEED)), (ONE_STEP, one_step)):
                spent = machine.processor_seconds()
                rate, outcomes = asyncio.run(
                    saturate(system, orders, clients=CLIENTS, seconds=seconds, patience=PATIENCE_SECONDS)
                )
                spent = machine.processor_seconds() - spent
                figures[what] = {"rate": rate, "answered": len(outcomes), "errors": _errors(outcomes)}
                figures[what]["processor_ms"] = 1000 * spent / len(outcomes)
        return figures, image

    def latencies(self, name: str, orders: Sequence[Order]) -> dict[str, Any]:
        """Returns the seconds from when requests were due until they were answered, at one server."""
        say(f"{name}: {len(orders)} requests in {orders[-1].at:.0f} s")
        with self.open(name) as system:
            for order in PROBES:
                asyncio.run(fetch(system, order, timeout=PATIENCE_SECONDS))
            outcomes = asyncio.run(send_open(system, orders, patience=PATIENCE_SECONDS))
        figures: dict[str, Any] = {"errors": _errors(outcomes)}
        for kind, short in (("short", True), ("long", False)):
            # A request that was given up counts with the time that it had waited: the truth is worse.
            waits = [outcome.ended - outcome.began for outcome in outcomes if outcome.order.is_short is short]
            figures[kind] = {"count": len(waits), "p50": quantile(waits, 0.5), "p95": quantile(waits, 0.95)}
        return figures


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/faces64"),
    tiny: Annotated[bool, typer.Option("--tiny", help="A random 32x32 network of 1.1 M parameters instead.")] = False,
    seconds: Annotated[float, typer.Option(help="Seconds of random arrivals at each server.")] = 100.0,
    capacity_seconds: Annotated[float, typer.Option(help="Seconds of full load at each server.")] = 30.0,
    only: Annotated[list[str] | None, typer.Option(help="Servers to run; may be repeated.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second, instead of 70 % of the better peer.")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Number format of all servers; by default that of the model.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ours; by default as `difuso serve` decides.")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Cores that servers and clients share.")] = 2,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-serving.json"),
) -> None:
    """Compares difuso with two other servers; about fifteen minutes."""
    names = [name for name in NAMES if not only or name in only]
    if not names or set(only or ()) - set(NAMES):
        raise typer.BadParameter(f"the servers are {', '.join(NAMES)}", param_hint="--only")
    machine.warn_if_busy()
    machine.use_cores(cores)
    if precision is not None:
        stack.ENVIRONMENT["DIFUSO_PRECISION"] = precision
    ours = {"workers": workers, "precision": precision}
    report = Report(out, {"model": "tiny" if tiny else str(model), **ours, "seconds": seconds})
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        contest = Contest(
            random_model(models / "tiny", TINY) if tiny else copy_model(model, models / model.resolve().name),
            workers=workers,
        )
        capacity = compare_capacity(contest, names, capacity_seconds, report)
        rivals = [found for name, found in capacity.items() if name != "difuso"] or list(capacity.values())
        orders = poisson(rate or LOAD * max(rivals) / MEAN_IMAGE_STEPS, seconds, SEED)
        compare_latency(contest, names, orders, report)
    report.close()


def compare_capacity(contest: Contest, names: Sequence[str], seconds: float, report: Report) -> dict[str, float]:
    """Returns the image-steps a second by server; ours must be at least 1.15 times the best peer's."""
    found, images = {}, {}
    for name in names:
        found[name], images[name] = contest.capacity(name, seconds)
        report.add(f"capacity of {contest.model.name}", found)
    first = _pixels(images[names[0]])
    differences = {name: int(np.abs(_pixels(png) - first).max()) for name, png in images.items()}
    report.add(f"grey levels apart of {contest.model.name}", differences)
    rates = {what: {name: figures[what]["rate"] for name, figures in found.items()} for what in (MIXED, ONE_STEP)}
    errors = {name: [error for what in rates for error in each[what]["errors"]] for name, each in found.items()}
    rows = [(name, rates[MIXED][name], differences[name], _summary(errors[name])) for name in names]
    show(f"capacity of {contest.model.name}", ("server", "image-steps/s", "grey levels apart", "errors"), rows)
    prices = [
        (name, rates[ONE_STEP][name], found[name][ONE_STEP]["processor_ms"], found[name][LONE_MS]) for name in names
    ]
    show("jobs of one step", ("server", "jobs/s", "processor ms a job", "ms alone"), prices)
    if "difuso" in found and len(found) > 1:
        report.bar(Bar("images of one request apart", max(differences.values()), 1, "grey levels", "at most"))
        for what, title, least in ((MIXED, "capacity", 1.15), (ONE_STEP, "jobs of one step", 1.0)):
            best = max(rate for name, rate in rates[what].items() if name != "difuso")
            ratio = rates[what]["difuso"] / best
            report.bar(Bar(f"{title} against the best peer's", ratio, least, "times", "at least"))
        if "lock" in found:
            ratio = found["difuso"][LONE_MS] / found["lock"][LONE_MS]
            report.bar(Bar("a job of one step alone against the lock's", ratio, 1.1, "times", "at most"))
    return rates[MIXED]


def compare_latency(contest: Contest, names: Sequence[str], orders: Sequence[Order], report: Report) -> None:
    """Measures the seconds to an answer by server."""
    if not orders:
        raise SystemExit("no request arrives in that time: raise --seconds or --rate")
    report.add("arrivals", {"count": len(orders), "seconds": orders[-1].at})
    found: dict[str, Any] = {}
    for name in names:
        found[name] = contest.latencies(name, orders)
        report.add("latency", found)
    headings = ("server", "short p50 s", "p95", "long p50 s", "p95", "errors")
    rows = [
        (name, *(f[kind][q] for kind in ("short", "long") for q in ("p50", "p95")), _summary(f["errors"]))
        for name, f in found.items()
    ]
    show(f"{len(orders)} requests in {orders[-1].at:.0f} s", headings, rows)
    if "difuso" in found and len(found) > 1:
        for kind, most in (("short", 0.1), ("long", 1.0)):
            best = min(figures[kind]["p95"] for name, figures in found.items() if name != "difuso")
            ratio = found["difuso"][kind]["p95"] / best
            report.bar(Bar(f"p95 of {kind} requests against the best peer's", ratio, most, "times", "at most"))


def _errors(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.error for outcome in outcomes if outcome.error is not None]


def _summary(errors: Sequence[str]) -> str:
    return f"{len(errors)} ({errors[0][:60]})" if errors else "0"


def _pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int16)


if __name__ == "__main__":
    typer.run(main)
