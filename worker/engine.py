"""The step engine: one batch of trajectories per runner, filled anew at every step.

A job that arrives joins at the next step, one that is cancelled leaves at the next step. Batches never mix models
or versions of one, which take turns. The engine knows neither Redis nor files: jobs come in by `submit`, events go out
by a callback.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable

import torch

from model.errors import ModelError, NonFiniteSample

from .active import ActiveJob, EngineEvent, Finished, Previewed, Snapped
from .failures import Cancelled, DeadlineExceeded
from .fairness import share_slots
from .runner import Runner
from .trajectory import Trajectory, take_snapshot

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 1.0  # what kill -9 costs a job
IDLE_SECONDS = 0.2


class EngineStalled(Exception):
    """The engine's thread ended; the process must be replaced."""


class StepEngine:
    """Steps all jobs in flight.

    Args:
        emit: called from the engine's thread with what happened; must not block.

    Attributes:
        last_step: when the last step ended or nothing was to do, on the monotonic clock.
        fatal: why `run` ended, if it did by itself; the process should not outlive it.
    """

    def __init__(self, emit: Callable[[EngineEvent], None]) -> None:
        self._emit = emit
        self._incoming: queue.SimpleQueue[ActiveJob | None] = queue.SimpleQueue()
        self._jobs: dict[Runner, list[ActiveJob]] = {}
        self._turn = 0
        self._stopped = False
        self.last_step = time.monotonic()
        self.fatal: BaseException | None = None

    def submit(self, active: ActiveJob) -> None:
        """Adds a job; may be called from any thread."""
        self._incoming.put(active)

    def stop(self) -> None:
        """Ends `run` after its current step; may be called from any thread."""
        self._incoming.put(None)

    def run(self) -> None:
        """Steps until `stop`; the body of the engine's thread."""
        try:
            while not self._stopped:
                self._take(wait=not self._jobs)
                self.step()
        except BaseException as error:
            self.fatal = error
            log.exception("the engine stopped")

    def step(self) -> None:
        """One step of every runner that has jobs, for as many trajectories as it has slots."""
        self._take(wait=False)
        for runner, jobs in list(self._jobs.items()):
            self._heed(jobs)
            if jobs:
                self._step_runner(runner, jobs)
                self._settle(jobs)
            if not jobs:
                del self._jobs[runner]  # of an old version nothing may stay
            self.last_step = time.monotonic()
        self.last_step = time.monotonic()
        self._turn += 1

    def _take(self, *, wait: bool) -> None:
        """Moves what was submitted into the batch's jobs."""
        while True:
            try:
                active = self._incoming.get(block=wait, timeout=IDLE_SECONDS if wait else None)
            except queue.Empty:
                return
            wait = False
            if active is None:
                self._stopped = True
            else:
                self._jobs.setdefault(active.runner, []).append(active)

    def _heed(self, jobs: list[ActiveJob]) -> None:
        """Before a step: lets go of jobs that were cancelled, released or ran too long."""
        for active in list(jobs):
            if active.cancel:
                self._drop(jobs, Finished(active, Cancelled()))
            elif time.monotonic() > active.deadline:
                self._drop(jobs, Finished(active, DeadlineExceeded()))
            elif active.release:
                self._drop(jobs, Snapped(active, take_snapshot(active.trajectories), released=True))

    def _step_runner(self, runner: Runner, jobs: list[ActiveJob]) -> None:
        chosen = share_slots(jobs, runner.slots, self._turn)
        if not chosen:
            return
        started = time.perf_counter()
        try:
            runner.step([trajectory for _, trajectory in chosen])
        except torch.AcceleratorError:
            raise  # the device's context is lost: nothing more can be computed in this process
        except Exception as error:
            log.warning("a batch failed (%s); stepping its jobs one by one", error)
            self._step_alone(runner, jobs, chosen)
        seconds = time.perf_counter() - started
        for active in {active for active, _ in chosen}:
            active.denoise_seconds += seconds
            active.network_calls += 1

    def _step_alone(self, runner: Runner, jobs: list[ActiveJob], chosen: list[tuple[ActiveJob, Trajectory]]) -> None:
        """After a failed batch, whose trajectories are unchanged: only the job that is at fault fails."""
        for active in {active: None for active, _ in chosen}:
            try:
                runner.step([trajectory for owner, trajectory in chosen if owner is active])
            except torch.AcceleratorError:
                raise
            except Exception as error:
                self._drop(jobs, Finished(active, error))

    def _settle(self, jobs: list[ActiveJob]) -> None:
        """After a step: reports finished jobs, previews and due snapshots."""
        now = time.monotonic()
        for active in list(jobs):
            active.begin_waiting()
            if not active.unfinished:
                self._drop(jobs, Finished(active, _verdict(active)))
                continue
            if active.preview:
                active.preview = False
                open_ones = [i for i, t in enumerate(active.answers) if t.ready and not t.finished]
                if open_ones:  # none while others go first
                    index = open_ones[self._turn % len(open_ones)]
                    self._emit(Previewed(active, index, active.answers[index].x0))
            if now - active.snapshot_at > SNAPSHOT_SECONDS:
                active.snapshot_at = now
                self._emit(Snapped(active, take_snapshot(active.trajectories)))

    def _drop(self, jobs: list[ActiveJob], event: EngineEvent) -> None:
        jobs.remove(event.active)
        self._emit(event)


def _verdict(active: ActiveJob) -> ModelError | None:
    """NaN reaches the end of a trajectory and must not become a picture."""
    if all(bool(torch.isfinite(t.x).all()) for t in active.trajectories):
        return None
    return NonFiniteSample("the network produced NaN or infinity")
