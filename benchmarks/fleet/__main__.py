"""`python -m benchmarks.fleet`: the program."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine
from benchmarks.models import copy_model
from benchmarks.report import Report, say, show
from benchmarks.serving import share_cores

from . import probe, studies
from .rates import Rates, parse_steps, read_rates
from .validation import validate

STUDIES: dict[str, Callable[..., None]] = {
    "load": studies.study_load,
    "redis": studies.study_redis,
    "disturbances": studies.study_disturbances,
    "autoscaling": studies.study_autoscaling,
}

WINDOW = 8.0  # seconds of each look at Redis; heartbeats come every four
SHOWN = 12


def main(
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine, unless --rates is given, and try real workers.")
    ] = False,
    rates: Annotated[Path | None, typer.Option(help="JSON file of an earlier run, whose rates are used.")] = None,
    step_ms: Annotated[
        str | None, typer.Option(help="SIZE=MILLISECONDS,… of a step of your workers, as 1=5,8=5.7,32=8; only these.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(STUDIES)}; may be repeated.")] = None,
    model: Annotated[Path, typer.Option(help="A checkpoint's folder, for --measure.")] = Path("checkpoints/faces64"),
    seconds: Annotated[float, typer.Option(help="Of requests at each real stack.")] = 60.0,
    cores: Annotated[int, typer.Option(min=1, help="That real workers, front end and clients share.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the requests and the deaths.")] = 0,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-fleet.json"),
) -> None:
    """Simulates fleets of difuso; about five minutes, and five more with --measure."""
    if set(only or ()) - set(STUDIES):
        raise typer.BadParameter(f"studies are {', '.join(STUDIES)}", param_hint="--only")
    workers = {"yours": parse_steps(step_ms)} if step_ms else {}
    found = read_rates(rates) if rates else Rates()
    report = Report(out, {"measure": measure, "rates": rates and str(rates), "step_ms": step_ms, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        if measure:
            machine.warn_if_busy()
            share_cores(cores)
            served = copy_model(model, Path(folder) / model.resolve().name)
            if rates is None:
                found = measured(served, found, report, cores=cores)
        report.add("rates", asdict(found))
        if measure:
            validate(served, found, report, cores=cores, seconds=seconds, seed=seed)
    workers = workers or {"cpu": found.cpu, "gpu": found.gpu}
    for study in only or STUDIES:
        for name, steps in workers.items():
            STUDIES[study](name, found, steps, report, seed=seed)
    report.close()


def measured(model: Path, rates: Rates, report: Report, *, cores: int) -> Rates:
    """Returns the rates with all that this machine can measure, and prints what a job costs Redis."""
    say(f"steps of {model.name} on {cores} threads and on one")
    cpu, lone_core = (probe.measure_steps(model, threads=threads) for threads in (cores, 1))
    found = probe.measure(WINDOW)
    report.add("job_commands", dict(found.job_commands))
    report.add("command_shares", dict(found.command_shares))
    show(
        "Redis: commands of one job, and shares of the time in commands (a script's own commands count twice)",
        ("command", "a job", "time %"),
        [(name, count, 100 * found.command_shares.get(name, 0.0)) for name, count in found.job_commands.items()][
            :SHOWN
        ],
    )
    acts = asdict(found.costs).items()
    rows = [(act, cost["commands"], 1e6 * cost["seconds"]) for act, cost in acts]
    show("Redis: what each act costs", ("act", "commands", "CPU µs"), rows)
    return replace(rates, cpu=cpu, lone_core=lone_core, delays=found.delays, redis=found.costs)


if __name__ == "__main__":
    typer.run(main)
