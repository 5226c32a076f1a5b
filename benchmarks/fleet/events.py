"""What happens to a fleet: deaths, deploys, and more or fewer workers as the backlog asks for."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from .engine import Acts
from .simulation import Fleet

RESTART_SECONDS = 1.0  # between a process' end and the start of the next


def deaths(fleet: Fleet, *, per_hour: float, seed: int) -> Acts:
    """Kills workers at random, each so often on average."""
    draw = random.Random(seed)
    while True:
        yield fleet.env.timeout(draw.expovariate(per_hour / 3600 * fleet.setup.workers))
        if fleet.workers:
            fleet.kill(draw.choice(fleet.workers))


def die(fleet: Fleet, *, after: float) -> Acts:
    """Kills the worker that holds the most jobs, after so many seconds."""
    yield fleet.env.timeout(after)
    fleet.kill(max(fleet.workers, key=lambda worker: len(worker.held)))


def roll(fleet: Fleet, *, surge: bool) -> Acts:
    """Replaces all workers, one after the other.

    Args:
        surge: whether the new one is ready before the old one is asked to end, as in `deploy/base`, or else is started
            after its end, as by the loop of docs/operations.md.
    """
    for worker in list(fleet.workers):
        if surge:
            yield from fleet.start_worker()
            yield worker.drain()
        else:
            yield worker.drain()
            yield fleet.env.timeout(RESTART_SECONDS)
            yield from fleet.start_worker()


@dataclass(frozen=True)
class Autoscaling:
    """`deploy/components/keda`, and the autoscaler of Kubernetes behind it.

    Attributes:
        threshold: the image-steps of backlog for each worker.
        scrape_seconds: time between two looks of Prometheus; what it knows is half as old on average.
    """

    threshold: float
    least: int = 1
    most: int = 8
    look_seconds: float = 15.0
    scrape_seconds: float = 10.0
    tolerance: float = 0.1
    down_after_seconds: float = 300.0
    down_seconds: float = 60.0


def autoscale(fleet: Fleet, how: Autoscaling) -> Acts:
    """Starts and drains workers as the backlog asks for; a started one counts at once."""
    env, wanted = fleet.env, len(fleet.workers)
    known = deque([(env.now, wanted)])
    last_down = -math.inf
    while True:
        yield env.timeout(how.look_seconds - how.scrape_seconds / 2)
        scraped = fleet.backlog
        yield env.timeout(how.scrape_seconds / 2)
        ratio = scraped / how.threshold / wanted
        asked = wanted if abs(ratio - 1) <= how.tolerance else math.ceil(wanted * ratio)
        asked = min(max(asked, how.least), how.most)
        known.append((env.now, asked))
        while known[0][0] < env.now - how.down_after_seconds:
            known.popleft()
        if asked > wanted:
            grown = min(asked, max(2 * wanted, wanted + 4))  # the default policies of Kubernetes
            for _ in range(grown - wanted):
                env.process(fleet.start_worker())
            wanted = grown
        elif max(each for _, each in known) < wanted and env.now >= last_down + how.down_seconds:
            wanted, last_down = wanted - 1, env.now
            next(worker for worker in reversed(fleet.workers) if not worker.draining).drain()
