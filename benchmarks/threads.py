"""Which thread settings suit a worker whose cores are shared with the API: each tried alone and with polling clients.

Not part of `make bench`: it is how the settings that `difuso worker` ships with were chosen.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from . import machine, stack
from .models import TINY, copy_model, random_model
from .overhead import compare_polling
from .report import Report, say, show


@dataclass(frozen=True)
class Variant:
    """Settings to try."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    api_nice: int = 0


VARIANTS = (
    Variant("shipped"),
    Variant("shipped, API nice 10", api_nice=10),
    Variant("spin 1,000", {"GOMP_SPINCOUNT": "1000"}),
    Variant("spin 100,000", {"GOMP_SPINCOUNT": "100000"}),
    Variant("spin 100,000, API nice 10", {"GOMP_SPINCOUNT": "100000"}, api_nice=10),
    Variant("active", {"OMP_WAIT_POLICY": "ACTIVE"}),
    Variant("one thread", {"OMP_NUM_THREADS": "1"}),
)


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/faces64"),
    tiny: Annotated[bool, typer.Option("--tiny", help="A random 32x32 network of 1.1 M parameters instead.")] = False,
    seconds: Annotated[float, typer.Option(help="Of one window.")] = 10.0,
    pairs: Annotated[int, typer.Option(help="Windows without and with clients, for each variant.")] = 3,
    cores: Annotated[int, typer.Option(min=1, help="That everything shares.")] = 2,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-threads.json"),
) -> None:
    """Compares thread settings of the worker; about nine minutes."""
    machine.warn_if_busy()
    machine.use_cores(cores)
    report = Report(out, {"model": "tiny" if tiny else str(model), "seconds": seconds, "pairs": pairs})
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        served = random_model(models / "tiny", TINY) if tiny else copy_model(model, models / model.resolve().name)
        for variant in VARIANTS:
            say(variant.name)
            with stack.difuso(served, environment=variant.environment, api_nice=variant.api_nice) as difuso:
                slowdown, figures = compare_polling(difuso, seconds, pairs)
            report.add(variant.name, figures)
            alone, watched = (statistics.median(figures[key]) for key in ("alone", "watched"))
            rows.append((variant.name, alone, watched, slowdown))
    show("thread settings", ("variant", "image-steps/s alone", "with clients", "slowdown %"), rows)
    report.close()


if __name__ == "__main__":
    typer.run(main)
