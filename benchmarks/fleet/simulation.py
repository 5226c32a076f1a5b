"""The fleet: front ends that admit jobs, the queues, Redis, and the workers that claim."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import simpy

from app.admission import admit
from app.errors import Overloaded
from benchmarks.load import Order
from jobs.contract import DEFAULT_URGENCY, URGENCIES
from jobs.queue import WAKE_TOKENS, Backlog
from worker.claims import LOOKAHEAD
from worker.recovery import EXECUTION_TTL

from .engine import Acts, Tally
from .jobs import SimulatedJob
from .rates import FREE, UNLOADED, Cost, Delays, RedisCosts, Steps
from .servers import Server
from .worker import ACTS, Worker


@dataclass(frozen=True)
class Setup:
    """A fleet.

    Attributes:
        max_wait, max_jobs: DIFUSO_MAX_WAIT in seconds, and DIFUSO_MAX_JOBS.
        drain_seconds: DIFUSO_DRAIN_SECONDS.
        restart: whether a worker that was killed is started again, as by any supervisor.
    """

    steps: Steps
    workers: int = 1
    front_ends: int = 1
    delays: Delays = UNLOADED
    redis: RedisCosts = FREE
    max_wait: float = 600.0
    max_jobs: int = 1000
    drain_seconds: float = 20.0
    restart: bool = True


class Fleet:
    """A running fleet.

    Attributes:
        jobs: all jobs that were accepted, in this order; `refused` are the orders that were not.
        waiters: the clients that wait for the end of a job.
        workers: the processes that live, `reporting` the number of those that front ends know of.
        running: the jobs that workers hold.
        unfinished: the backlog: its jobs, and their image-steps as last reported.
        tally: what the workers have done.
    """

    def __init__(self, env: simpy.Environment, setup: Setup) -> None:
        self.env = env
        self.setup = setup
        self.redis = Server(env)
        self.front_ends = [Server(env) for _ in range(setup.front_ends)]
        self._next_front_end = itertools.cycle(self.front_ends)
        self.jobs: list[SimulatedJob] = []
        self.refused: list[Order] = []
        self.waiters: dict[SimulatedJob, simpy.Event] = {}
        self.queues: dict[int, deque[SimulatedJob]] = {urgency: deque() for urgency in URGENCIES}
        self.queued = 0
        self.orphans = 0
        self.orphaned: list[tuple[float, SimulatedJob]] = []  # when an execution expires, and its job
        self.tokens = 0
        self.idle: dict[Worker, simpy.Event] = {}
        self.running = 0
        self.unfinished = self.backlog = 0
        self.tally = Tally()
        self.reporting = 0
        self.workers: list[Worker] = []
        self._numbers = itertools.count()
        for _ in range(setup.workers):
            self.add_worker()

    # Front ends.

    def feed(self, orders: Iterable[Order], urgency: int = DEFAULT_URGENCY) -> Acts:
        """Posts each order when it is due."""
        for order in orders:
            if order.at > self.env.now:
                yield self.env.timeout(order.at - self.env.now)
            self.env.process(self.post(order, urgency))

    def post(self, order: Order, urgency: int = DEFAULT_URGENCY) -> Generator[simpy.Event, Any, SimulatedJob | None]:
        """Posts an order now; returns its job once it is in its queue, or None if it was refused."""
        delays, costs = self.setup.delays, self.setup.redis
        yield self.env.timeout(self._wait_for_front_end() + delays.submit)
        reads = costs.post_worker * self.reporting + costs.post_job * self.unfinished
        wait = self.redis.serve(costs.job * (1 / ACTS) + reads)
        try:
            self.admit()
        except Overloaded:
            self.refused.append(order)
            return None
        job = SimulatedJob(order, urgency)
        self.jobs.append(job)
        self.unfinished += 1
        self.backlog += job.reported
        yield self.env.timeout(wait)
        self.enqueue(job)
        self.wake()
        return job

    def admit(self) -> None:
        """Returns if there is room for one more job: the front ends' own function."""
        rate = self.setup.steps.rate * self.reporting or None
        backlog = Backlog(self.backlog, self.unfinished, rate)
        admit(backlog, max_wait=self.setup.max_wait, max_jobs=self.setup.max_jobs)

    def report(self, job: SimulatedJob, left: int) -> None:
        """Notes the image-steps that a job has to come."""
        self.backlog += left - job.reported
        job.reported = left

    def end(self, job: SimulatedJob) -> None:
        """Answers a job's client."""
        assert job.ended_at is None, "a job ended twice"
        self.report(job, 0)
        self.unfinished -= 1
        job.ended_at = self.env.now + self._wait_for_front_end()
        if (waiter := self.waiters.pop(job, None)) is not None:
            waiter.succeed()

    def _wait_for_front_end(self) -> float:
        """Takes half a job's time of one front end; returns how long other requests are served before."""
        half = self.setup.delays.front_end / 2
        return next(self._next_front_end).serve(Cost(0, half)) - half

    # Queues.

    def enqueue(self, job: SimulatedJob, *, at_front: bool = False) -> None:
        """Puts a job into its queue."""
        queue = self.queues[job.urgency]
        if at_front:
            queue.appendleft(job)
        else:
            queue.append(job)
        self.queued += 1
        self.orphans += job.deaths > 0

    def pop(self, urgency: int, *, orphan: bool = False) -> SimulatedJob | None:
        """Takes the next job off a queue, or the next one whose worker died."""
        queue = self.queues[urgency]
        if not queue or (orphan and not self.orphans):
            return None
        place = 0
        if orphan:
            found = (i for i, job in enumerate(itertools.islice(queue, LOOKAHEAD)) if job.deaths)
            if (place := next(found, -1)) < 0:
                return None
        job = queue[place]
        del queue[place]
        self.queued -= 1
        self.orphans -= job.deaths > 0
        return job

    def wake(self) -> None:
        """Tells the idle worker that has waited longest that there may be work, or leaves a token for the next."""
        if self.idle:
            worker = next(iter(self.idle))
            self.idle.pop(worker).succeed()
        else:
            self.tokens = min(WAKE_TOKENS, self.tokens + 1)

    def recover(self) -> None:
        """Puts the jobs whose executions have expired at the front of their queues."""
        expired = [job for at, job in self.orphaned if at <= self.env.now]
        if expired:
            self.orphaned = [(at, job) for at, job in self.orphaned if at > self.env.now]
            for job in reversed(expired):
                job.deaths += 1
                self.enqueue(job, at_front=True)

    # Workers.

    def add_worker(self) -> Worker:
        """Starts a worker that is ready; each has its own phase in what all do regularly."""
        number = next(self._numbers)
        worker = Worker(self, phase=number * 0.618_034 % 1)
        self.workers.append(worker)
        return worker

    def start_worker(self) -> Acts:
        """Starts a worker's process, which loads its models first."""
        yield self.env.timeout(self.setup.delays.start)
        self.add_worker()

    def kill(self, worker: Worker) -> None:
        """Ends a worker as kill -9 does."""
        self.tally.deaths += 1
        self.workers.remove(worker)
        self.idle.pop(worker, None)
        for job in worker.die():
            self.orphaned.append((worker.beat_at + EXECUTION_TTL, job))
            self.tally.lost += job.restore()
        if self.setup.restart:
            self.env.process(self.start_worker())
