"""The engine of a simulated worker: it steps its jobs as one batch, and takes new ones between two steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import simpy

from worker.engine import SNAPSHOT_SECONDS

from .jobs import Image, SimulatedJob, share_slots
from .rates import Steps

Acts = Generator[simpy.Event, Any, None]


@dataclass
class Tally:
    """What all workers of a fleet have done.

    Attributes:
        made, lost: image-steps that were made, and those of them that deaths made worthless.
        seconds: time spent with steps.
        deaths: the workers that were killed.
    """

    made: int = 0
    lost: int = 0
    seconds: float = 0.0
    deaths: int = 0


class Engine:
    """Steps jobs until it is stopped. Steps between which nothing changes are one event of the simulation.

    Args:
        finished, released: start what becomes of a job whose images are done, and of one that is let go of.

    Attributes:
        jobs: the jobs that step.
    """

    def __init__(
        self,
        env: simpy.Environment,
        steps: Steps,
        tally: Tally,
        *,
        finished: Callable[[SimulatedJob], Acts],
        released: Callable[[SimulatedJob], Acts],
    ) -> None:
        self._env = env
        self._seconds = steps.by_images()
        self._slots = steps.slots
        self._tally = tally
        self._finished = finished
        self._released = released
        self.jobs: list[SimulatedJob] = []
        self._joining: list[SimulatedJob] = []
        self._turn = 0
        self._under_way: tuple[float, float, int] | None = None  # began at, seconds of a step, images
        self._stopped = False
        self._process = env.process(self._run())

    def submit(self, job: SimulatedJob) -> None:
        """Adds a job, which joins at the next step."""
        job.snapshot_at = self._env.now
        self._joining.append(job)
        self._process.interrupt()

    def release(self, jobs: list[SimulatedJob]) -> None:
        """Lets go of jobs at the next step."""
        for job in jobs:
            job.release = True
        self._process.interrupt()

    def stop(self) -> None:
        """Ends at once; what was not stored is lost."""
        self._stopped = True
        if self._under_way is not None:
            began, seconds, images = self._under_way
            done = int((self._env.now - began) / seconds) * images
            self._tally.made += done
            self._tally.lost += done
        self._process.interrupt()

    def _run(self) -> Acts:
        while not self._stopped:
            self._take()
            if not self.jobs:
                try:
                    yield self._env.event()
                except simpy.Interrupt:
                    continue
            yield from self._advance(*self._choose())

    def _take(self) -> None:
        self.jobs += self._joining
        self._joining.clear()
        for job in [job for job in self.jobs if job.release]:
            self.jobs.remove(job)
            self._env.process(self._released(job))

    def _choose(self) -> tuple[list[tuple[SimulatedJob, Image]], int]:
        """Returns the images that step next, and the steps until anything changes if no job comes."""
        images = sum(len(job.unfinished) for job in self.jobs)
        if images > self._slots:
            return share_slots(self.jobs, self._slots, self._turn), 1
        chosen = [(job, image) for job in self.jobs for image in job.unfinished]
        due = min(job.snapshot_at for job in self.jobs) + SNAPSHOT_SECONDS - self._env.now
        until_snapshot = math.floor(due / self._seconds[images]) + 1
        return chosen, max(1, min(until_snapshot, min(image.left for _, image in chosen)))

    def _advance(self, chosen: list[tuple[SimulatedJob, Image]], steps: int) -> Acts:
        """Makes so many steps, or fewer if something changes: the step under way is finished."""
        env, seconds = self._env, self._seconds[len(chosen)]
        began = env.now
        self._under_way = began, seconds, len(chosen)
        while (rest := began + steps * seconds - env.now) > 1e-12:
            try:
                yield env.timeout(rest)
            except simpy.Interrupt:
                if self._stopped:
                    return
                steps = max(1, min(steps, math.ceil((env.now - began) / seconds - 1e-9)))
        self._under_way = None
        self._turn += steps
        self._tally.made += steps * len(chosen)
        self._tally.seconds += steps * seconds
        for job, image in chosen:
            image.left -= steps
            if not image.left:
                job.unfinished.remove(image)
        for job in list(self.jobs):
            if not job.unfinished:
                self.jobs.remove(job)
                env.process(self._finished(job))
            elif env.now - job.snapshot_at > SNAPSHOT_SECONDS:
                job.save(env.now)
