"""One trial of a fleet under a load, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import simpy

from benchmarks.load import MEAN_IMAGE_STEPS, Order, mix, poisson
from benchmarks.report import quantile

from .engine import Acts, Tally
from .jobs import SimulatedJob
from .rates import FREE, Rates, Steps
from .redis_load import demand
from .simulation import Fleet, Setup

LONG_STEPS = 100  # of a long job; a trial is measured in its times
FRONT_END_LOAD = 0.5

Event = Callable[[Fleet], Acts]


@dataclass(frozen=True)
class Span:
    """The seconds of a trial: orders due from `opens` to `closes` are measured, all come until `ends`."""

    opens: float
    closes: float
    ends: float

    @classmethod
    def steady(cls, steps: Steps, *, jobs: int, rate: float) -> Span:
        """Returns a span that holds at least so many jobs at a rate, and begins and ends in a steady state."""
        long = LONG_STEPS * steps.seconds[steps.slots]
        opens = 2 * long
        closes = opens + max(2 * long, jobs / rate)
        return cls(opens, closes, closes + 3 * long)


@dataclass(frozen=True)
class Figures:
    """What a trial shows.

    Attributes:
        short, long: p50, p95 and the longest latency in seconds; an unanswered job counts with what it has waited.
        done: image-steps made, as a share of what full batches of all workers would make.
        efficiency: the same share of the time in which workers stepped.
        stepping: share of their time in which they stepped.
        running: jobs in flight, on average.
        redis: share of its time in which Redis' main thread is busy.
        lost: image-steps made in vain, as a share of all.
        deaths: workers that were killed.
    """

    jobs: int
    refused: int
    short: Mapping[str, float]
    long: Mapping[str, float]
    done: float
    efficiency: float
    stepping: float
    running: float
    redis: float
    lost: float
    deaths: int


def rate_of(setup: Setup, load: float) -> float:
    """Returns the jobs per second that are a share of a fleet's capacity."""
    return load * setup.workers * setup.steps.rate / MEAN_IMAGE_STEPS


def fleet_of(rates: Rates, steps: Steps, workers: int, *, load: float, **others: Any) -> Setup:
    """Returns a fleet with as many front ends as the load needs, and without a limit of unfinished jobs."""
    setup = Setup(steps, workers, delays=rates.delays, redis=rates.redis, **others)
    front_ends = math.ceil(rate_of(setup, load) * rates.delays.front_end / FRONT_END_LOAD)
    return replace(setup, front_ends=max(1, front_ends), max_jobs=10**9)


def try_load(setup: Setup, load: float, span: Span, *, seed: int, events: Sequence[Event] = ()) -> Figures:
    """Tries a load that is a share of the fleet's capacity."""
    return try_orders(setup, poisson(rate_of(setup, load), span.ends, seed), span, events=events)


def try_orders(setup: Setup, orders: Sequence[Order], span: Span, *, events: Sequence[Event] = ()) -> Figures:
    """Runs a fleet with these orders; events begin when the measurement does."""
    fleet = Fleet(simpy.Environment(), setup)
    env = fleet.env
    env.process(fleet.feed(orders))
    if span.opens:
        env.run(until=span.opens)
    before, redis_before = replace(fleet.tally), fleet.redis.seconds
    for event in events:
        env.process(event(fleet))
    env.run(until=span.closes)
    after, redis_after = replace(fleet.tally), fleet.redis.seconds
    env.run(until=span.ends)
    return _figures(fleet, span, before, after, redis=redis_after - redis_before)


def latencies(jobs: Sequence[SimulatedJob], *, short: bool, until: float) -> list[float]:
    """Returns the seconds from when requests were due to their answers."""
    return [(job.ended_at or until) - job.order.at for job in jobs if job.order.is_short is short]


def saturated_rate(setup: Setup, *, clients: int, seed: int, longs: float = 20.0) -> float:
    """Returns the image-steps per second of a fleet in which so many clients always wait for an answer."""
    fleet, orders = Fleet(simpy.Environment(), setup), mix(seed)
    long = LONG_STEPS * setup.steps.seconds[setup.steps.slots]

    def ask() -> Acts:
        while True:
            job = yield fleet.env.process(fleet.post(replace(next(orders), at=fleet.env.now)))
            fleet.waiters[job] = fleet.env.event()
            yield fleet.waiters[job]

    for _ in range(clients):
        fleet.env.process(ask())
    fleet.env.run(until=3 * long)
    made = fleet.tally.made
    fleet.env.run(until=(3 + longs) * long)
    return (fleet.tally.made - made) / (longs * long)


def _figures(fleet: Fleet, span: Span, before: Tally, after: Tally, *, redis: float) -> Figures:
    setup, seconds = fleet.setup, span.closes - span.opens
    inside = [job for job in fleet.jobs if span.opens <= job.order.at < span.closes]
    made, stepping = after.made - before.made, after.seconds - before.seconds
    short, long = (latencies(inside, short=short, until=span.ends) for short in (True, False))
    return Figures(
        jobs=len(inside),
        refused=sum(span.opens <= order.at < span.closes for order in fleet.refused),
        short=_quantiles(short),
        long=_quantiles(long),
        done=made / (seconds * setup.workers * setup.steps.rate),
        efficiency=made / (stepping * setup.steps.rate) if stepping else 0.0,
        stepping=stepping / (seconds * setup.workers),
        running=sum(short + long) / seconds,  # Little's law
        redis=redis / seconds,
        lost=(after.lost - before.lost) / max(1, made),
        deaths=after.deaths - before.deaths,
    )


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {"p50": quantile(values, 0.5), "p95": quantile(values, 0.95), "longest": max(values, default=math.nan)}


def without_redis(setup: Setup) -> Setup:
    """Returns the fleet with a Redis that takes no time."""
    return replace(setup, redis=FREE)


def redis_share(setup: Setup, load: float, *, running: float = 0.0) -> float:
    """Returns the share of its time in which Redis would be busy; without the running jobs it is a lower bound."""
    jobs = rate_of(setup, load)
    parts = demand(setup.redis, workers=setup.workers, busy=load, jobs=jobs, running=running)
    return sum(cost.seconds for cost in parts.values())
