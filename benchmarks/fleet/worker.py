"""The main thread of a simulated worker: it looks at Redis at the intervals of the real one."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import simpy

from jobs.contract import URGENCIES
from jobs.workers import STALE_SECONDS
from worker.claims import CROWDED
from worker.recovery import HEARTBEAT_SECONDS, LOOKAHEAD, RECOVERY_SECONDS
from worker.rq_worker import IDLE_SECONDS, POLL_SECONDS, PROGRESS_SECONDS

from .engine import Acts, Engine
from .jobs import SimulatedJob, forecast
from .rates import NOTHING

if TYPE_CHECKING:
    from .simulation import Fleet

ACTS = 3  # a job's cost to Redis is spread over its POST, its claim and its end


class Worker:
    """A worker of a fleet, ready to claim.

    Args:
        phase: share of each interval that has passed at the start, so that not all workers do everything at once.

    Attributes:
        held: the jobs that it has claimed and not ended.
        beat_at: when it sent its last heartbeat.
        draining: whether it claims nothing more.
    """

    def __init__(self, fleet: Fleet, *, phase: float) -> None:
        self._fleet = fleet
        self._env = fleet.env
        self._setup = fleet.setup
        self.held: list[SimulatedJob] = []
        now = self._env.now
        self._due = {
            what: now + phase * seconds
            for what, seconds in (("beat", HEARTBEAT_SECONDS), ("look", RECOVERY_SECONDS), ("tell", PROGRESS_SECONDS))
        }
        self._look_crowded_at = 0.0
        self.beat_at = now
        self.draining = False
        self._stop_at = math.inf
        self.over = False
        fleet.reporting += 1
        self._sleeping = False
        self._main = self._env.process(self._serve(phase * POLL_SECONDS))
        self._engine = Engine(self._env, fleet.setup.steps, fleet.tally, finished=self._finish, released=self._release)

    # Life and death.

    def drain(self) -> simpy.Process:
        """Asks it to end, as SIGTERM does; the process that is returned ends with it."""
        self.draining = True
        self._stop_at = self._env.now + self._setup.drain_seconds
        self._awake()
        return self._main

    def die(self) -> list[SimulatedJob]:
        """Ends it at once; returns the jobs that it held."""
        self.over = True
        self._engine.stop()
        if self._main.is_alive:
            self._main.interrupt()
        self._fleet.running -= len(self.held)
        self._env.process(self._go_stale())
        held, self.held = self.held, []
        return held

    def _go_stale(self) -> Acts:
        yield self._env.timeout(max(0.0, self.beat_at + STALE_SECONDS - self._env.now))
        self._fleet.reporting -= 1

    # The main thread.

    def _serve(self, wait: float) -> Acts:
        yield from self._sleep(wait)
        while not self.over and not (self.draining and not self.held):
            rest = self._regular_acts()
            rest += self._claim()
            if self.draining:
                self._release_late()
            if self.held:
                rest += self._fleet.redis.serve(self._setup.redis.busy * POLL_SECONDS)
                yield from self._sleep(rest + POLL_SECONDS)
            elif not self.draining:
                yield from self._rest(rest)
        if not self.over:
            self._leave()

    def _leave(self) -> None:
        self.over = True
        self._fleet.workers.remove(self)
        self._fleet.reporting -= 1
        self._engine.stop()

    def _sleep(self, seconds: float) -> Acts:
        """Waits, but not if this worker has nothing left to do, is to end, or dies."""
        self._sleeping = True
        with suppress(simpy.Interrupt):
            yield self._env.timeout(seconds)
        self._sleeping = False

    def _awake(self) -> None:
        if self._sleeping:
            self._sleeping = False
            self._main.interrupt()

    def _rest(self, wait: float) -> Acts:
        """Blocks until a token comes, at most IDLE_SECONDS."""
        yield from self._sleep(wait)
        if self.over or self.draining:
            return
        if self._fleet.tokens:
            self._fleet.tokens -= 1
            return
        token = self._fleet.idle[self] = self._env.event()
        began, self._sleeping = self._env.now, True
        with suppress(simpy.Interrupt):
            yield token | self._env.timeout(IDLE_SECONDS)
        self._sleeping = False
        self._fleet.idle.pop(self, None)
        self._fleet.redis.serve(self._setup.redis.idle * (self._env.now - began))

    def _regular_acts(self) -> float:
        """Does what is due; returns the seconds until Redis has answered."""
        fleet, costs, cost = self._fleet, self._setup.redis, NOTHING
        if self._is_due("beat", HEARTBEAT_SECONDS):
            self.beat_at = self._env.now
            cost += costs.beat_worker * fleet.reporting + costs.beat_job * fleet.unfinished
        if self._is_due("look", RECOVERY_SECONDS):
            fleet.recover()
            cost += costs.look_job * min(LOOKAHEAD, fleet.running)
        if self.held and self._is_due("tell", PROGRESS_SECONDS):
            for job in self.held:
                fleet.report(job, job.left)
            cost += costs.held * (len(self.held) * PROGRESS_SECONDS)
        return fleet.redis.serve(cost) if cost.seconds or cost.commands else 0.0

    def _is_due(self, what: str, seconds: float) -> bool:
        if self._env.now < self._due[what]:
            return False
        self._due[what] = self._env.now + seconds
        return True

    def _claim(self) -> float:
        """Claims jobs while there is room; returns how long that took."""
        crowded = self._env.now >= self._look_crowded_at
        if crowded:
            self._look_crowded_at = self._env.now + RECOVERY_SECONDS
        if self.draining or not self._fleet.queued:
            return 0.0
        spent = 0.0
        for orphan in (True, False) if crowded else (False,):
            room = self._setup.steps.slots * (CROWDED if orphan else 1)
            for urgency in URGENCIES:
                while sum(job.urgency <= urgency for job in self.held) < room:
                    job = self._fleet.pop(urgency, orphan=orphan)
                    if job is None:
                        break
                    spent += self._start(job, spent)
        return spent

    def _start(self, job: SimulatedJob, after: float) -> float:
        """Takes a job, which joins the engine a moment later; returns how long that took."""
        self.held.append(job)
        self._fleet.running += 1
        if job.claimed_at is None:
            job.claimed_at = self._env.now
        answered = self._fleet.redis.serve(self._setup.redis.job * (1 / ACTS))
        self._env.process(self._begin(job, max(after, answered) + self._setup.delays.claim))
        return self._setup.delays.claim

    def _begin(self, job: SimulatedJob, seconds: float) -> Acts:
        yield self._env.timeout(seconds)
        if self.over:
            return
        if self.draining:  # what is not read by now goes back
            self._hand_back(job)
            return
        self._engine.submit(job)

    def _finish(self, job: SimulatedJob) -> Acts:
        """Stores a job's images and tells its client."""
        yield self._env.timeout(self._setup.delays.answer)
        if self.over:
            return
        yield self._env.timeout(self._fleet.redis.serve(self._setup.redis.job * (1 / ACTS)))
        if self._let_go(job):
            self._fleet.end(job)

    def _release_late(self) -> None:
        """Asks the engine to let go of the jobs that cannot end in time."""
        left = self._stop_at - self._env.now
        late = [job for job in self._engine.jobs if not job.release and forecast(job, self._setup.steps) > left]
        if late:
            self._engine.release(late)

    def _release(self, job: SimulatedJob) -> Acts:
        """Stores the state of a job, and hands it back."""
        job.save(self._env.now)
        yield self._env.timeout(self._setup.delays.answer)
        self._hand_back(job)

    def _hand_back(self, job: SimulatedJob) -> None:
        if self._let_go(job):
            job.release = False
            self._fleet.enqueue(job, at_front=True)
            self._fleet.wake()

    def _let_go(self, job: SimulatedJob) -> bool:
        """Returns whether the job was still this worker's."""
        if self.over:
            return False
        self.held.remove(job)
        self._fleet.running -= 1
        if not self.held:
            self._awake()
        return True
