"""The figures that the simulation is fed with: steps by batch size, delays, and what each act costs Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter
from typer import BadParameter

# faces64 on two cores: calls of 2, 8 and 16 images as docs/benchmarks.md has them, the sizes between interpolated.
CPU_STEP_MS = "2=14.8,3=20.5,4=26.2,5=31.9,6=37.6,7=43.3,8=49,12=66.5,16=84"
# An assumption, since no GPU was measured: 5 ms for a lone image, 4,000 image-steps a second in full batches.
GPU_STEP_MS = "1=5,2=5.1,4=5.3,8=5.7,16=6.5,32=8"


@dataclass(frozen=True)
class Steps:
    """Seconds of a step by batch size, rising; a batch of another size is padded to the next."""

    seconds: Mapping[int, float]

    @property
    def slots(self) -> int:
        """The size of the largest batch."""
        return max(self.seconds)

    @property
    def rate(self) -> float:
        """Image-steps per second in full batches."""
        return self.slots / self.seconds[self.slots]

    @property
    def step_seconds(self) -> float:
        """Seconds that one step of a lone image takes."""
        return self.seconds[min(self.seconds)]

    def by_images(self) -> list[float]:
        """Returns the seconds of a step for 0, 1, … `slots` images."""
        sizes = sorted(self.seconds)
        return [self.seconds[next(size for size in sizes if size >= images)] for images in range(self.slots + 1)]


@dataclass(frozen=True)
class Cost:
    """What some commands cost Redis: their number, and the CPU seconds of its main thread."""

    commands: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.commands + other.commands, self.seconds + other.seconds)

    def __sub__(self, other: Cost) -> Cost:
        """Returns the difference of two measurements; noise must not make it negative."""
        return Cost(max(0.0, self.commands - other.commands), max(0.0, self.seconds - other.seconds))

    def __mul__(self, factor: float) -> Cost:
        return Cost(self.commands * factor, self.seconds * factor)


NOTHING = Cost()


@dataclass(frozen=True)
class RedisCosts:
    """What each act of a fleet costs Redis.

    Attributes:
        idle: a worker without a job and an idle front end, in a second.
        busy: a worker with a job, in a second.
        held: a job that runs while its client waits, in a second.
        job: a job from its POST to its answer, besides.
        beat_worker, beat_job: a worker's heartbeat, for each worker of the fleet and for each unfinished job.
        look_job: a worker's look for dead workers, for each running job.
        post_worker, post_job: a POST, for each worker of the fleet and for each unfinished job.
    """

    idle: Cost = NOTHING
    busy: Cost = NOTHING
    held: Cost = NOTHING
    job: Cost = NOTHING
    beat_worker: Cost = NOTHING
    beat_job: Cost = NOTHING
    look_job: Cost = NOTHING
    post_worker: Cost = NOTHING
    post_job: Cost = NOTHING


FREE = RedisCosts()
# By `python -m benchmarks.fleet --measure` on two cores of an AMD EPYC, with other programs beside it, November 2026.
MEASURED = RedisCosts(
    idle=Cost(32, 2100e-6),
    busy=Cost(37, 3080e-6),
    held=Cost(5.8, 25e-6),
    job=Cost(82, 884e-6),
    beat_worker=Cost(0, 1.05e-6),
    beat_job=Cost(1, 1.0e-6),
    look_job=Cost(0, 0.33e-6),
    post_worker=Cost(0, 1.2e-6),
    post_job=Cost(0, 0.5e-6),
)


@dataclass(frozen=True)
class Delays:
    """Seconds besides the steps, in processes that have nothing else to do.

    Attributes:
        submit: from a request to its job in the queue.
        claim: from a worker's look at the queue to the job's first step.
        answer: from a job's last step to its answer.
        front_end: CPU seconds of a front end for one job.
        start: from the start of a worker's process until it claims jobs.
    """

    submit: float = 0.007
    claim: float = 0.005
    answer: float = 0.01
    front_end: float = 0.01
    start: float = 4.5


UNLOADED = Delays()  # the defaults; `submit` and `start` as docs/benchmarks.md has them, the others estimated


@dataclass(frozen=True)
class Rates:
    """All figures that the simulation is fed with; by default they are published, or measured once, or assumed.

    Attributes:
        cpu, gpu: the steps of a worker on a CPU, and of one on a GPU.
        lone_core: the steps of a worker that has one core; None unless measured.
    """

    cpu: Steps = field(default_factory=lambda: parse_steps(CPU_STEP_MS))
    gpu: Steps = field(default_factory=lambda: parse_steps(GPU_STEP_MS))
    lone_core: Steps | None = None
    delays: Delays = UNLOADED
    redis: RedisCosts = MEASURED


def parse_steps(text: str) -> Steps:
    """Reads `SIZE=MILLISECONDS,…`."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        seconds = {int(size): float(ms) / 1000 for size, ms in pairs}
    except ValueError as error:
        raise BadParameter(f"{text} is not SIZE=MILLISECONDS,…") from error
    if min(seconds) < 1 or min(seconds.values()) <= 0:
        raise BadParameter(f"{text} has a size below 1 or a time that is not positive")
    return Steps(dict(sorted(seconds.items())))


def read_rates(path: Path) -> Rates:
    """Reads the rates of an earlier run from its JSON file."""
    return TypeAdapter(Rates).validate_python(json.loads(path.read_text())["rates"])
