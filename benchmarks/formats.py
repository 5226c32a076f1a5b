"""Number formats on this machine: a call of three networks by batch size, and a server's capacity, in each format.

The formats take turns in one process, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from model import Checkpoint, load_checkpoint
from model.folders.config import Precision
from worker.device.calls import Network, by_position, example_batch

from . import machine, stack
from .load import Order, saturate
from .models import ADM, CIFAR, copy_model, random_model
from .report import Bar, Report, say, show
from .serving import CLIENTS, PATIENCE_SECONDS

FORMATS: tuple[Precision, ...] = ("float32", "bfloat16")
SIZES = (1, 4, 16)
STEPS = 6  # of each request to the server
LEAST = 2.2  # times the capacity in float32, on a processor with AMX


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder, measured first.")] = Path("checkpoints/faces64"),
    rounds: Annotated[int, typer.Option(min=1, help="Calls in each format; the fastest counts.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Networks to measure: model, cifar, adm or server.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a call.")] = 2,
    seconds: Annotated[float, typer.Option(help="Of full load on the server.")] = 15.0,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-formats.json"),
) -> None:
    """Compares number formats; about four minutes."""
    machine.warn_if_busy()
    torch.set_num_threads(threads)
    report = Report(out, {"model": str(model), "rounds": rounds, "threads": threads, "seconds": seconds})
    makers = {
        "model": partial(copy_model, model),
        "cifar": partial(random_model, config=CIFAR),
        "adm": partial(random_model, config=ADM),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers.items():
            if not only or name in only:
                compare_calls(load_checkpoint(make(Path(folder) / name / name)), rounds, report)
        if not only or "server" in only:
            compare_servers(random_model(Path(folder) / "server" / "cifar", CIFAR), seconds, report)
    report.close()


@torch.inference_mode()
def compare_calls(checkpoint: Checkpoint, rounds: int, report: Report) -> None:
    """Times the network's calls in the formats by turns."""
    networks = {each: _network(checkpoint, each) for each in FORMATS}
    rows, found = [], {}
    for size in SIZES:
        say(f"{checkpoint.name}: {size} images")
        x, timesteps, told = example_batch(checkpoint.config, size)
        best = dict.fromkeys(FORMATS, float("inf"))
        for precision, _ in itertools.product(FORMATS[::-1] * rounds, range(2)):  # the first of two also prepares
            started = time.perf_counter()
            networks[precision](x, timesteps, *told.values())
            best[precision] = min(best[precision], time.perf_counter() - started)
        old, new = (1000 * best[each] for each in FORMATS)
        found[size] = {"float32_ms": old, "bfloat16_ms": new}
        rows.append((size, old, new, old / new))
    report.add(f"{checkpoint.name} calls", found)
    parameters = sum(each.numel() for each in checkpoint.network.parameters()) / 1e6
    show(f"{checkpoint.name}, {parameters:.1f} M", ("images", "float32 ms", "bfloat16 ms", "times as fast"), rows)


def compare_servers(model: Path, seconds: float, report: Report) -> None:
    """Measures image-steps a second for requests of one image each."""
    found = {}
    for precision in FORMATS:
        say(f"server in {precision}: {seconds:.0f} s")
        stack.ENVIRONMENT["DIFUSO_PRECISION"] = precision
        orders = (Order(1, STEPS, seed) for seed in itertools.count())
        with stack.difuso(model, workers=None) as system:
            found[precision], _ = asyncio.run(
                saturate(system, orders, clients=CLIENTS, seconds=seconds, patience=PATIENCE_SECONDS)
            )
    report.add("server", found)
    show(f"{CLIENTS} clients, one image of {STEPS} steps", ("format", "image-steps/s"), list(found.items()))
    report.bar(Bar("capacity in bfloat16", found["bfloat16"] / found["float32"], LEAST, "times float32", "at least"))


def _network(checkpoint: Checkpoint, precision: Precision) -> Network:
    own = replace(checkpoint, network=deepcopy(checkpoint.network)).in_precision(precision)
    return by_position(own, torch.device("cpu"))


if __name__ == "__main__":
    typer.run(main)
