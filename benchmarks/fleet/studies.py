"""What the simulation is asked: load and latency, the largest fleet of one Redis, deaths, deploys, autoscaling."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import simpy

from benchmarks.load import poisson
from benchmarks.report import Report, quantile, say, show

from .events import Autoscaling, autoscale, deaths, die, roll
from .rates import Rates, Steps
from .redis_load import demand, largest_fleet, relieved
from .simulation import Fleet, Setup
from .trial import LONG_STEPS, Event, Figures, Span, fleet_of, latencies, rate_of, redis_share, try_load, without_redis

FLEETS = (1, 2, 4, 10, 100, 1000)
LOADS = (0.3, 0.5, 0.7, 0.85, 0.95)
LEAST_JOBS, MOST_JOBS = 6_000, 100_000  # of a trial; one that needs more is left out
USUAL = 0.7
LATENCY = ("short p50 s", "p95", "long p50 s", "p95")


def study_load(name: str, rates: Rates, steps: Steps, report: Report, *, seed: int) -> None:
    """Latency and efficiency by fleet and load."""
    found, rows = [], []
    for workers in FLEETS:
        say(f"{name}: {workers} workers")
        for load in LOADS:
            setup = fleet_of(rates, steps, workers, load=load)
            span = Span.steady(steps, jobs=LEAST_JOBS, rate=rate_of(setup, load))
            if rate_of(setup, load) * span.ends > MOST_JOBS:
                continue
            # A Redis that is asked for more than it can do has no steady state: then the scheduling alone is tried.
            overloaded = redis_share(setup, load) > 1
            figures = try_load(without_redis(setup) if overloaded else setup, load, span, seed=seed)
            share = redis_share(setup, load, running=figures.running) if overloaded else figures.redis
            found.append({"workers": workers, "load": load, "redis_asked": share, **asdict(figures)})
            rows.append((f"{workers} at {load:.2f}", *_latency(figures), figures.done, figures.efficiency, share))
    report.add(f"load {name}", found)
    show(
        f"{name}: {steps.rate:.0f} image-steps/s a worker; workers at load",
        ("", *LATENCY, "done", "while stepping", "Redis"),
        rows,
    )


def study_redis(name: str, rates: Rates, steps: Steps, report: Report, *, seed: int) -> None:
    """The largest fleet that one Redis carries at the usual load, and what would make it larger."""
    setup = without_redis(fleet_of(rates, steps, 10, load=USUAL))
    span = Span.steady(steps, jobs=LEAST_JOBS, rate=rate_of(setup, USUAL))
    figures = try_load(setup, USUAL, span, seed=seed)
    facts = {
        "busy": figures.stepping,
        "jobs": rate_of(setup, USUAL) / setup.workers,
        "running": figures.running / setup.workers,
    }
    fleets = {what: largest_fleet(costs, **facts) for what, costs in relieved(rates.redis).items()}
    workers = next(iter(fleets.values()))
    parts = demand(
        rates.redis,
        workers=workers,
        busy=facts["busy"],
        jobs=facts["jobs"] * workers,
        running=facts["running"] * workers,
    )
    report.add(
        f"redis {name}", {"a worker": facts, "fleets": fleets, "parts": {k: asdict(v) for k, v in parts.items()}}
    )
    title = f"{name}: Redis is busy 70 % with {workers} workers, {facts['jobs'] * workers:.0f} jobs/s"
    show(title, ("act", "commands/s", "CPU %"), [(act, c.commands, 100 * c.seconds) for act, c in parts.items()])
    show(f"{name}: workers at 70 % if", ("", "workers"), list(fleets.items()))


def study_disturbances(name: str, rates: Rates, steps: Steps, report: Report, *, seed: int) -> None:
    """Latencies at the usual load while workers die or are replaced."""
    death: Event = partial(deaths, per_hour=1.0, seed=seed)
    long, minute, roll_seconds = 1800.0, 60.0, 4 * (rates.delays.start + 15)
    cases: list[tuple[str, int, float, list[Event]]] = [
        ("10 workers", 10, long, []),
        ("10 workers, a death per worker-hour", 10, long, [death]),
        ("10 workers, the minute around a death", 10, minute, [partial(die, after=minute / 2)]),
        ("2 workers", 2, minute, []),
        ("2 workers, the minute around a death", 2, minute, [partial(die, after=minute / 2)]),
        ("4 workers", 4, roll_seconds, []),
        ("4 workers, deploy, one more meanwhile", 4, roll_seconds, [partial(roll, surge=True)]),
        ("4 workers, deploy, one less meanwhile", 4, roll_seconds, [partial(roll, surge=False)]),
    ]
    found, rows = {}, []
    for case, workers, seconds, events in cases:
        say(f"{name}: {case}")
        setup = fleet_of(rates, steps, workers, load=USUAL)
        seconds = min(seconds, MOST_JOBS / rate_of(setup, USUAL))
        opens = 3 * LONG_STEPS * steps.seconds[steps.slots]
        figures = try_load(setup, USUAL, Span(opens, opens + seconds, opens + seconds + 60), seed=seed, events=events)
        found[case] = asdict(figures)
        rows.append((case, *_latency(figures), figures.long["longest"], figures.deaths, 100 * figures.lost))
    report.add(f"disturbances {name}", found)
    show(f"{name}: load {USUAL}", ("", *LATENCY, "longest", "deaths", "steps made twice %"), rows)


SCALED = 2  # workers before the step of load
STEP_AT, WATCHED = 200.0, 600.0
BEFORE, AFTER = 0.6, 2.1  # load of these workers; the second is 70 % of six
WINDOW = 20.0  # seconds over which a p95 is taken
NEAR = 1.5  # times the p95 before
MAX_JOBS = 1000  # DIFUSO_MAX_JOBS, as it ships


def study_autoscaling(name: str, rates: Rates, steps: Steps, report: Report, *, seed: int) -> None:
    """Seconds until short jobs are answered as before, after a step of load, by threshold of the autoscaler."""
    found, rows = {}, []
    for seconds in (30.0, 10.0, 3.0, 1.0):
        say(f"{name}: autoscaling at {seconds:.0f} s of work a worker")
        how = Autoscaling(threshold=seconds * steps.rate)
        figures = _scale(replace(fleet_of(rates, steps, SCALED, load=AFTER), max_jobs=MAX_JOBS), how, seed)
        found[f"{seconds:g} s"] = figures
        rows.append((f"{seconds:g} s of work", *figures.values()))
    report.add(f"autoscaling {name}", found)
    headings = (
        "threshold",
        "p95 before",
        "back after s",
        "worst p95",
        "p95 at the end",
        "workers before",
        "after",
        "429",
    )
    show(f"{name}: load of {SCALED} workers from {BEFORE} to {AFTER}, at most 8; short jobs", headings, rows)


def _scale(setup: Setup, how: Autoscaling, seed: int) -> dict[str, float | None]:
    end = STEP_AT + WATCHED
    orders = [*poisson(rate_of(setup, BEFORE), STEP_AT, seed)]
    orders += [replace(each, at=each.at + STEP_AT) for each in poisson(rate_of(setup, AFTER), WATCHED, seed + 1)]
    fleet = Fleet(simpy.Environment(), setup)
    fleet.env.process(fleet.feed(orders))
    fleet.env.process(autoscale(fleet, how))
    fleet.env.run(until=STEP_AT)
    workers = len(fleet.workers)
    fleet.env.run(until=end)
    windows = [STEP_AT + WINDOW * number for number in range(int((WATCHED - 60) / WINDOW))]
    course = [_p95(fleet, at, at + WINDOW) for at in windows]
    before = _p95(fleet, STEP_AT / 2, STEP_AT)
    late = [number for number, p95 in enumerate(course) if p95 > NEAR * before]
    back = WINDOW * (late[-1] + 1) if late else 0.0
    return {
        "before": before,
        "back_after": back if not late or late[-1] + 1 < len(course) else None,
        "worst": max(course),
        "at_end": _p95(fleet, end - 180, end - 60),
        "workers_before": workers,
        "workers_after": len(fleet.workers),
        "refused": len(fleet.refused),
    }


def _p95(fleet: Fleet, begin: float, end: float) -> float:
    inside = [job for job in fleet.jobs if begin <= job.order.at < end]
    return quantile(latencies(inside, short=True, until=fleet.env.now), 0.95)


def _latency(figures: Figures) -> tuple[float, ...]:
    return (figures.short["p50"], figures.short["p95"], figures.long["p50"], figures.long["p95"])
