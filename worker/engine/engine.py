"""The step engine: one batch of trajectories per runner, refilled at every step.

A new job joins at the next step, and a cancelled job leaves at the next step. A batch never mixes models or versions of
a model; these take turns. The engine knows neither Redis nor files: jobs come in through `submit`, and events go out
through a callback.
"""

import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from ..device.cores import Core, use_all_cores
from ..stepping.runner import Runner
from ..stepping.trajectory import Snapshot, Trajectory, take_snapshot
from .active import ActiveJob, EngineEvent, Finished, Previewed, Snapped
from .failures import Cancelled, DeadlineExceeded
from .fairness import BACKGROUND, share_slots

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 1.0  # time between two snapshots, and the most work that kill -9 costs a job
IDLE_SECONDS = 0.2  # how long an idle engine waits for a job before it reports that it lives


class EngineStalled(Exception):
    """The engine's thread has ended; the process must be replaced."""


class StepEngine:
    """Steps all jobs in flight.

    Args:
        emit: function that receives each event, called in the engine's thread; it must not block.
        core: the core that is taken while there is work.

    Attributes:
        last_step: time on the monotonic clock at which the engine last finished a step or had nothing to do.
        fatal: the error that ended `run`, if any; the process must be replaced then.
    """

    def __init__(self, emit: Callable[[EngineEvent], None], core: Core | None = None) -> None:
        self._emit = emit
        self._core = core or Core(None)
        self._has_core = False
        self._incoming: queue.SimpleQueue[Sequence[ActiveJob] | None] = queue.SimpleQueue()
        self._jobs: dict[Runner, list[ActiveJob]] = {}
        self._since_background: dict[Runner, int] = {}
        self._turn = 0
        self._stopped = False
        self.last_step = time.monotonic()
        self.fatal: BaseException | None = None

    def submit(self, *actives: ActiveJob) -> None:
        """Adds jobs that step together from the first; may be called from any thread."""
        self._incoming.put(actives)

    def stop(self) -> None:
        """Ends `run` after its current step; may be called from any thread."""
        self._incoming.put(None)

    def run(self) -> None:
        """Steps until `stop` is called; the body of the engine's thread."""
        use_all_cores()
        try:
            while not self._stopped:
                self._hold_core()
                self._take(wait=not self._jobs)
                self.step()
        except BaseException as error:
            self.fatal = error
            log.exception("the engine stopped")

    def step(self) -> None:
        """Makes one step of every runner that has jobs, for as many trajectories as it has slots."""
        self._take(wait=False)
        self._hold_core()
        begun, image_steps = time.perf_counter(), dict[Runner, int]()
        for runner, jobs in list(self._jobs.items()):
            self._heed(jobs)
            if jobs:
                image_steps[runner] = self._step_runner(runner, jobs)
                self._settle(runner, jobs)
            if not jobs:
                del self._jobs[runner]  # so that the memory of an old version is freed
                self._since_background.pop(runner, None)
            self.last_step = time.monotonic()
        seconds = time.perf_counter() - begun  # the jobs of each model wait for all of them
        for runner, made in image_steps.items():
            if made:
                runner.slowness.note(seconds, expected=max(made / runner.rate, runner.step_seconds))
        self.last_step = time.monotonic()
        self._turn += 1

    def _take(self, *, wait: bool) -> None:
        """Adds the submitted jobs to those of their runners; `wait` waits up to IDLE_SECONDS for the first."""
        while True:
            try:
                actives = self._incoming.get(block=wait, timeout=IDLE_SECONDS if wait else None)
            except queue.Empty:
                return
            wait = False
            if actives is None:
                self._stopped = True
            for active in actives or ():
                self._jobs.setdefault(active.stepping, []).append(active)

    def _hold_core(self) -> None:
        """Takes the core when there is work, and leaves it when there is none."""
        if bool(self._jobs) is not self._has_core:
            self._has_core = not self._has_core
            (self._core.take if self._has_core else self._core.leave)()

    def _heed(self, jobs: list[ActiveJob]) -> None:
        """Lets go of jobs that were cancelled or released or ran too long; called before each step."""
        for active in list(jobs):
            if active.cancel:
                self._drop(jobs, Finished(active, Cancelled()))
            elif active.denoise_seconds > active.job.timeout:  # time in which others had the slots does not count
                self._drop(jobs, Finished(active, DeadlineExceeded()))
            elif active.release:
                self._drop(jobs, Snapped(active, _snapshot(active), released=True))

    def _step_runner(self, runner: Runner, jobs: list[ActiveJob]) -> int:
        """Makes one step; returns its number of image-steps."""
        since_background = self._since_background.get(runner, 0)
        chosen = share_slots(jobs, runner.slots, self._turn, since_background=since_background)
        if not chosen:
            return 0
        shared = any(active.job.urgency == BACKGROUND for active, _ in chosen)
        self._since_background[runner] = 0 if shared else since_background + 1
        costs = Counter[ActiveJob]()
        for active, trajectory in chosen:
            costs[active] += trajectory.cost
        started = time.perf_counter()
        try:
            runner.step([trajectory for _, trajectory in chosen])
        except torch.AcceleratorError:
            raise  # the device's context is lost: this process can compute nothing more
        except Exception as error:
            log.warning("a batch failed (%s); stepping its jobs one by one", error)
            self._step_alone(runner, jobs, chosen)
        seconds = time.perf_counter() - started
        for active, cost in costs.items():
            active.denoise_seconds += seconds
            active.device_seconds += seconds * cost / costs.total()
            active.network_calls += 1
        return costs.total()

    def _step_alone(self, runner: Runner, jobs: list[ActiveJob], chosen: list[tuple[ActiveJob, Trajectory]]) -> None:
        """Repeats a failed batch job by job, so that only the job at fault fails. The trajectories are unchanged."""
        for active in {active: None for active, _ in chosen}:
            try:
                runner.step([trajectory for owner, trajectory in chosen if owner is active])
            except torch.AcceleratorError:
                raise
            except Exception as error:
                self._drop(jobs, Finished(active, error))

    def _settle(self, runner: Runner, jobs: list[ActiveJob]) -> None:
        """Reports finished jobs, previews and due snapshots, and passes jobs on to their next stage."""
        now = time.monotonic()
        for active in list(jobs):
            active.start.begin_if_ready()
            if not active.unfinished:
                self._drop(jobs, Finished(active))
                continue
            if active.preview:
                active.preview = False
                shown = active.start.previewed
                open_ones = [i for i, t in enumerate(shown) if t.ready and t.row > 0 and not t.finished]
                if open_ones:  # empty before the first step, and while the answers wait for other trajectories
                    index = open_ones[self._turn % len(open_ones)]
                    self._emit(Previewed(active, index, shown[index].x0))
            if now - active.snapshot_at > SNAPSHOT_SECONDS:
                active.snapshot_at = now
                self._emit(Snapped(active, _snapshot(active)))
            if active.stepping is not runner:
                jobs.remove(active)
                self._jobs.setdefault(active.stepping, []).append(active)

    def _drop(self, jobs: list[ActiveJob], event: EngineEvent) -> None:
        jobs.remove(event.active)
        self._emit(event)


def _snapshot(active: ActiveJob) -> Snapshot:
    return take_snapshot(active.trajectories, seconds=(active.denoise_seconds, active.device_seconds))
