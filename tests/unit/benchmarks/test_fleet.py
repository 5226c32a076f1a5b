"""The simulated fleet beside closed forms of queueing theory, and beside what difuso promises.

A mean is compared with its formula within four standard errors, from independent runs; the seeds are fixed.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import pytest
import simpy
import typer

from benchmarks.fleet.engine import Acts
from benchmarks.fleet.events import Autoscaling, autoscale, deaths, roll
from benchmarks.fleet.jobs import SimulatedJob
from benchmarks.fleet.rates import CPU_STEP_MS, Cost, Delays, Rates, RedisCosts, Steps, parse_steps, read_rates
from benchmarks.fleet.redis_load import demand, largest_fleet, relieved
from benchmarks.fleet.servers import Server
from benchmarks.fleet.simulation import Fleet, Setup
from benchmarks.fleet.trial import Span, fleet_of, rate_of, try_load
from benchmarks.load import Order, poisson
from worker.engine import SNAPSHOT_SECONDS
from worker.recovery import EXECUTION_TTL, HEARTBEAT_SECONDS, RECOVERY_SECONDS
from worker.rq_worker import POLL_SECONDS

AT_ONCE = Delays(submit=0.0, claim=0.0, answer=0.0, front_end=0.0, start=5.0)
STEP = 0.001  # seconds; so short that there are few looks at Redis, which would take the test's time
RUNS = 10
ONE_SLOT = Setup(Steps({1: STEP}), delays=AT_ONCE, max_wait=1e9, max_jobs=10**9)
CPU = parse_steps(CPU_STEP_MS)
SHORT, LONG = (1, 10), (4, 100)


def random_orders(draw_steps: Callable[[random.Random], int], *, rate: float, jobs: int, seed: int) -> list[Order]:
    draw, at, orders = random.Random(seed), 0.0, []
    for number in range(jobs):
        at += draw.expovariate(rate)
        orders.append(Order(1, draw_steps(draw), seed=number, at=at))
    return orders


def geometric(mean: float) -> Callable[[random.Random], int]:
    """Draws 1, 2, …"""
    return lambda draw: 1 + int(math.log(1 - draw.random()) / math.log(1 - 1 / mean))


def run(setup: Setup, orders: Sequence[Order], *events: Callable[[Fleet], Acts], until: float = 1e6) -> Fleet:
    """Runs a fleet until all its jobs have ended, or for so long."""
    fleet = Fleet(simpy.Environment(), setup)
    fleet.env.process(fleet.feed(orders))
    for event in events:
        fleet.env.process(event(fleet))
    fleet.env.run(until=orders[-1].at + 1)
    while fleet.unfinished and fleet.env.now < until:
        fleet.env.run(until=fleet.env.now + 1)
    return fleet


def waited(jobs: Sequence[SimulatedJob]) -> float:
    """Returns the mean time to the claim, without the first tenth, which found an empty fleet."""
    return fmean((job.claimed_at or math.nan) - job.order.at for job in jobs[len(jobs) // 10 :])


def stayed(jobs: Sequence[SimulatedJob]) -> float:
    """Returns the mean time to the answer, without the first tenth."""
    return fmean((job.ended_at or math.nan) - job.order.at for job in jobs[len(jobs) // 10 :])


def agrees(found: Sequence[float], formula: float, *, slack: float = 0.0) -> bool:
    """Tells whether a mean agrees with a formula; an error above 7 % would make that say little."""
    error = stdev(found) / math.sqrt(len(found))
    assert error < 0.07 * formula
    return abs(fmean(found) - formula) <= 4 * error + slack


# Closed forms.


def test_one_slot_and_equal_jobs_wait_as_in_m_d_1() -> None:
    load = 0.5
    found = [
        waited(run(ONE_SLOT, random_orders(lambda _: 1, rate=load / STEP, jobs=800, seed=seed)).jobs)
        for seed in range(RUNS)
    ]
    assert agrees(found, load * STEP / (2 * (1 - load)))


def test_one_slot_and_random_jobs_wait_as_pollaczek_and_khinchine_say() -> None:
    load, mean = 0.4, 5.0
    rate = load / (mean * STEP)
    second_moment = (2 - 1 / mean) * mean**2 * STEP**2  # of the time of a geometric number of steps
    found = [
        waited(run(ONE_SLOT, random_orders(geometric(mean), rate=rate, jobs=800, seed=seed)).jobs)
        for seed in range(RUNS)
    ]
    assert agrees(found, rate * second_moment / (2 * (1 - load)))


def test_several_workers_share_one_queue_as_in_m_m_c() -> None:
    workers, load, mean = 3, 0.6, 100.0
    setup = replace(ONE_SLOT, workers=workers)
    offered = workers * load
    tail = offered**workers / math.factorial(workers) / (1 - load)
    waits = tail / (sum(offered**k / math.factorial(k) for k in range(workers)) + tail)  # Erlang's C
    rate = offered / (mean * STEP)
    found = [
        waited(run(setup, random_orders(geometric(mean), rate=rate, jobs=1500, seed=seed)).jobs) for seed in range(RUNS)
    ]
    assert agrees(found, waits * mean * STEP / (workers * (1 - load)))


def test_jobs_that_share_a_batch_stay_as_under_processor_sharing() -> None:
    """A batch of k images takes k times as long: the mean stay is S / (1 - load), whatever the distribution of S."""
    load, steps, step = 0.5, 20, 0.05
    setup = replace(ONE_SLOT, steps=Steps({size: size * step for size in range(1, 33)}))
    found = [
        stayed(run(setup, random_orders(lambda _: steps, rate=load / (steps * step), jobs=400, seed=seed)).jobs)
        for seed in range(RUNS)
    ]
    joining = POLL_SECONDS + step  # what a job waits at most, on average, for the look of a busy worker and for a step
    assert agrees(found, steps * step / (1 - load), slack=joining)


def test_a_server_answers_one_request_after_the_other() -> None:
    env = simpy.Environment()
    server = Server(env)
    assert [server.serve(Cost(2, 3.0)), server.serve(Cost(1, 4.0))] == [3.0, 7.0]
    env.run(until=5)
    assert server.serve(Cost(1, 1.0)) == pytest.approx(3.0)
    assert (server.commands, server.seconds) == (4, 8.0)


# Promises of difuso.


def mixed(setup: Setup, load: float, seconds: float, seed: int = 0) -> list[Order]:
    return poisson(rate_of(setup, load), seconds, seed)


def settled(fleet: Fleet, orders: Sequence[Order]) -> bool:
    """Tells whether every order has ended once, and nothing is left over. `Fleet.end` refuses a second end."""
    counters = (fleet.unfinished, fleet.backlog, fleet.running, fleet.queued, fleet.orphans, len(fleet.orphaned))
    return len(fleet.jobs) == len(orders) and all(job.ended_at for job in fleet.jobs) and not any(counters)


def test_every_job_ends_once_though_workers_die() -> None:
    setup = replace(Setup(CPU, 3), delays=AT_ONCE)
    orders = mixed(setup, 0.5, 300.0)
    fleet = run(setup, orders, partial(deaths, per_hour=120.0, seed=1))
    assert settled(fleet, orders)
    assert sum(job.deaths for job in fleet.jobs) > 10
    assert fleet.tally.made - fleet.tally.lost == sum(order.image_steps for order in orders)
    assert fleet.tally.lost > 0


@pytest.mark.parametrize("drain", [0.5, 20.0])
@pytest.mark.parametrize("surge", [False, True])
def test_a_rolling_deploy_loses_no_job_and_repeats_no_step(surge: bool, drain: float) -> None:
    setup = replace(Setup(CPU, 3), delays=AT_ONCE, drain_seconds=drain)
    orders = mixed(setup, 0.6, 200.0)
    fleet = Fleet(simpy.Environment(), setup)
    old = list(fleet.workers)
    fleet.env.process(fleet.feed(orders))
    fleet.env.run(until=50)
    fleet.env.process(roll(fleet, surge=surge))
    fleet.env.run(until=400)
    assert settled(fleet, orders)
    assert fleet.tally.made == sum(order.image_steps for order in orders)
    assert len(fleet.workers) == len(old) == fleet.reporting
    assert not set(fleet.workers) & set(old)


def test_a_job_of_a_dead_worker_is_taken_over_in_time_and_repeats_a_second() -> None:
    steps, at = 3000, 20.3
    setup = replace(Setup(CPU, 2), delays=AT_ONCE, restart=False)
    fleet = Fleet(simpy.Environment(), setup)
    fleet.env.process(fleet.feed([Order(2, steps, seed=0)]))
    fleet.env.run(until=at)
    [job] = fleet.jobs
    fleet.kill(next(worker for worker in fleet.workers if worker.held))
    fleet.env.run(until=200)
    step = CPU.seconds[2]
    away = (job.ended_at or math.inf) - steps * step
    assert EXECUTION_TTL - HEARTBEAT_SECONDS <= away <= EXECUTION_TTL + RECOVERY_SECONDS + SNAPSHOT_SECONDS + 2
    assert 0 <= fleet.tally.lost <= 2 * (SNAPSHOT_SECONDS / step + 2)


@pytest.mark.parametrize("longs", [3, 12])
def test_a_short_job_never_waits_for_long_ones(longs: int) -> None:
    """Its ten steps take ten steps of the batch, also where the images of the others do not all fit in."""
    setup = replace(Setup(CPU), delays=AT_ONCE)
    orders = [Order(*LONG, seed=0) for _ in range(longs)] + [Order(*SHORT, seed=0, at=3.0)]
    fleet = run(setup, orders)
    latency = (fleet.jobs[-1].ended_at or math.inf) - 3.0
    assert latency <= 11 * CPU.seconds[CPU.slots] + POLL_SECONDS + 1e-9
    assert all((job.ended_at or 0.0) > 6.0 for job in fleet.jobs[:-1])


def test_more_urgent_jobs_go_first() -> None:
    fleet = Fleet(simpy.Environment(), ONE_SLOT)
    steps = 5000  # five seconds
    for order, urgency in ((Order(1, steps, 0), 3), (Order(1, steps, 1, at=1.0), 3), (Order(1, steps, 2, at=2.0), 0)):
        fleet.env.process(fleet.feed([order], urgency))
    fleet.env.run(until=20)
    assert [job.order.seed for job in sorted(fleet.jobs, key=lambda job: job.claimed_at or 0)] == [0, 2, 1]


def test_jobs_that_would_wait_too_long_are_refused() -> None:
    setup = replace(Setup(CPU), delays=AT_ONCE, max_wait=30.0)
    fleet = Fleet(simpy.Environment(), setup)
    fleet.env.process(fleet.feed([Order(*LONG, seed=0) for _ in range(100)]))
    fleet.env.run(until=0.001)
    accepted = math.floor(30.0 * CPU.rate / 400) + 1  # the last one comes when the backlog is just short enough
    assert (len(fleet.jobs), len(fleet.refused)) == (accepted, 100 - accepted)


def test_jobs_beyond_the_largest_number_are_refused() -> None:
    fleet = Fleet(simpy.Environment(), replace(Setup(CPU), delays=AT_ONCE, max_jobs=7))
    fleet.env.process(fleet.feed([Order(*SHORT, seed=0) for _ in range(10)]))
    fleet.env.run(until=0.01)
    assert (len(fleet.jobs), len(fleet.refused)) == (7, 3)


def test_the_same_seed_is_the_same_run() -> None:
    setup = fleet_of(Rates(), CPU, 3, load=0.8)
    span = Span(10, 60, 100)
    first, again = (try_load(setup, 0.8, span, seed=5, events=[partial(deaths, per_hour=200, seed=2)]) for _ in "ab")
    assert first == again
    assert first != try_load(setup, 0.8, span, seed=6)


def test_a_steady_fleet_does_what_is_asked() -> None:
    load = 0.6
    setup = fleet_of(Rates(), CPU, 2, load=load)
    figures = try_load(setup, load, Span(30, 630, 660), seed=0)
    assert figures.done == pytest.approx(load, rel=0.05)
    assert figures.done <= figures.stepping * figures.efficiency * 1.001
    assert figures.efficiency <= 1
    assert figures.refused == 0


def test_the_autoscaler_follows_the_backlog_up_and_down() -> None:
    setup = replace(Setup(CPU, 1, delays=AT_ONCE), max_jobs=10**9)
    fleet = Fleet(simpy.Environment(), setup)
    fleet.env.process(fleet.feed([Order(*LONG, seed=0) for _ in range(200)]))
    fleet.env.process(autoscale(fleet, Autoscaling(threshold=30 * CPU.rate)))
    fleet.env.run(until=30)
    assert len(fleet.workers) == 5  # at first four more, as Kubernetes allows
    fleet.env.run(until=60)
    assert len(fleet.workers) == 8
    fleet.env.run(until=300)
    assert fleet.unfinished == 0
    assert len(fleet.workers) == 8
    fleet.env.run(until=1000)
    assert len(fleet.workers) == 1


# Redis.


def test_the_sum_for_a_fleet_is_what_its_simulation_asks_of_redis() -> None:
    load = 0.7
    setup = fleet_of(Rates(), CPU, 8, load=load)
    figures = try_load(setup, load, Span(20, 80, 100), seed=0)
    parts = demand(setup.redis, workers=8, busy=figures.stepping, jobs=figures.jobs / 60, running=figures.running)
    assert figures.redis == pytest.approx(sum(cost.seconds for cost in parts.values()), rel=0.1)


def test_the_largest_fleet_is_the_root_of_the_sum() -> None:
    """With b W + c W² busy, where each worker asks for c with every heartbeat of each worker."""
    b, c = 0.003, 4e-6
    costs = RedisCosts(job=Cost(1, b), beat_worker=Cost(0, c * HEARTBEAT_SECONDS))
    root = (-b + math.sqrt(b * b + 4 * c * 0.7)) / (2 * c)
    assert largest_fleet(costs, busy=1.0, jobs=1.0, running=0.0) == math.floor(root)
    linear, *others = (largest_fleet(each, busy=1.0, jobs=1.0, running=0.0) for each in relieved(costs).values())
    assert linear == math.floor(root)
    assert max(others) == math.floor(0.7 / (b / 2))


# Rates.


def test_steps_are_padded_to_the_next_size() -> None:
    steps = parse_steps("8=40,2=20")
    assert steps.by_images() == [0.02, 0.02, 0.02, *[0.04] * 6]
    assert (steps.slots, steps.rate, steps.step_seconds) == (8, 200.0, 0.02)


@pytest.mark.parametrize("text", ["", "2", "a=1", "0=1", "2=0", "2=-1"])
def test_steps_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_steps(text)


def test_the_rates_of_an_earlier_run_are_read_again(tmp_path: Path) -> None:
    rates = replace(Rates(), lone_core=parse_steps("1=20,16=150"), delays=AT_ONCE)
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps({"rates": asdict(rates)}))
    assert read_rates(file) == rates
