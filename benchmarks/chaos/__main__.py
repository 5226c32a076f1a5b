"""`python -m benchmarks.chaos`: the program; `make chaos` runs it for twenty minutes."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine
from benchmarks.report import Report, say, show

from .disk import enter_namespace, has_namespace
from .run import Plan, run
from .schedule import HABITS, STORE, Break, Habit


def main(
    seconds: Annotated[float, typer.Option(min=10, help="Seconds during which things break.")] = 1200.0,
    seed: Annotated[int, typer.Option(help="Seed of the requests and faults, and of their moments.")] = 0,
    rate: Annotated[float, typer.Option(help="Posts a second.")] = 2.0,
    every: Annotated[
        list[str] | None, typer.Option(help=f"FAULT=SECONDS between two, 0 for none; of {', '.join(Break)}.")
    ] = None,
    claim_seconds: Annotated[float, typer.Option(help="Bar for kill -9 to next claim.")] = 20.0,
    repeated: Annotated[float, typer.Option(help="Bar for the share of repeated steps.")] = 0.03,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/chaos.json"),
    keep_logs: Annotated[Path | None, typer.Option(help="Folder to copy the processes' logs to.")] = None,
) -> None:
    """Breaks difuso for a while and counts which promises held; exits with 1 if one did not."""
    enter_namespace()
    habits = {**HABITS, **dict(map(_habit, every or ()))}
    if not has_namespace():
        say("no file system can be mounted here: the faults of the store are left out")
        habits |= dict.fromkeys(STORE, Habit(0))
    report = Report(out, {"seconds": seconds, "seed": seed, "rate": rate, "every": every})
    machine.warn_if_busy()
    plan = Plan(seconds, seed, rate, habits)
    verdict = run(plan, claim_seconds=claim_seconds, repeated=repeated, keep_logs=keep_logs)
    report.add("table", dict(verdict.rows))
    report.add("details", verdict.details)
    for bar in verdict.bars:
        report.bar(bar)
    show(f"{seconds:.0f} s of faults, seed {seed}", ("", "seen"), verdict.rows)
    if not verdict.kept:
        print("\n" + json.dumps(verdict.details, indent=1)[:20_000])
    report.close()
    sys.exit(0 if verdict.kept else 1)


def _habit(text: str) -> tuple[Break, Habit]:
    name, _, seconds = text.partition("=")
    try:
        kind, often = Break(name), float(seconds)
    except ValueError as error:
        raise typer.BadParameter(f"{text} is not FAULT=SECONDS", param_hint="--every") from error
    return kind, Habit(often, HABITS[kind].shortest, HABITS[kind].longest)


if __name__ == "__main__":
    typer.run(main)
