"""Which fault comes when: drawn from a seed before the run begins, so that a run can be repeated."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

REDIS_GAP_SECONDS = 60.0
STORE_GAP_SECONDS = 10.0


class Break(StrEnum):
    """A kind of fault, by its name on the command line."""

    KILL = "kill"  # kill -9 of a worker
    TERM = "term"  # SIGTERM of a worker, which drains and is started again
    FREEZE = "freeze"  # SIGSTOP of a worker, SIGCONT later
    API_KILL = "api-kill"
    REDIS_KILL = "redis-kill"
    REDIS_FREEZE = "redis-freeze"
    REDIS_PAUSE = "redis-pause"  # CLIENT PAUSE: connections stay, and nothing is answered
    VERSION = "version"  # one process gets the other version of the model
    STORE_FULL = "store-full"
    STORE_FULL_LONG = "store-full-long"  # for longer than most jobs run: posts find it full, and results wait
    STORE_READ_ONLY = "store-read-only"
    POISON = "poison"  # a job that kills any worker that runs it


@dataclass(frozen=True)
class Habit:
    """The mean interval of a fault, and its shortest and longest duration; seconds."""

    every: float
    shortest: float = 0.0
    longest: float = 0.0


HABITS: Mapping[Break, Habit] = {
    Break.KILL: Habit(45),
    Break.TERM: Habit(60),
    Break.FREEZE: Habit(75, 2, 25),  # an execution lives 12 s, so some come back to find their jobs given away
    Break.API_KILL: Habit(100),
    Break.REDIS_KILL: Habit(240, 1, 10),
    Break.REDIS_FREEZE: Habit(240, 2, 12),
    Break.REDIS_PAUSE: Habit(240, 2, 12),
    Break.VERSION: Habit(30),
    Break.STORE_FULL: Habit(110, 3, 10),
    Break.STORE_FULL_LONG: Habit(600, 30, 45),  # a job can save no progress in it, and fails at its fourth death
    Break.STORE_READ_ONLY: Habit(110, 3, 10),
    Break.POISON: Habit(120),
}
REDIS = (Break.REDIS_KILL, Break.REDIS_FREEZE, Break.REDIS_PAUSE)
FULL = (Break.STORE_FULL, Break.STORE_FULL_LONG)
STORE = (*FULL, Break.STORE_READ_ONLY)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        at: seconds since the beginning.
        target: which of the processes of its kind, counted without end.
        seconds: its duration, 0 for a fault that is over at once.
    """

    kind: Break
    at: float = 0.0
    target: int = 0
    seconds: float = 0.0

    @property
    def ends(self) -> float:
        return self.at + self.seconds


def draw_faults(seconds: float, seed: int, habits: Mapping[Break, Habit] = HABITS) -> list[Fault]:
    """Returns the faults of a run of this length, in order of time; of each wanted kind at least one if it fits.

    Two faults of Redis are at least a minute apart, and two faults of the store ten seconds. Others are left out.
    """
    draw = random.Random(f"faults {seed}")
    drawn = {kind: [_fault(draw, kind, habit) for _ in range(_count(seconds, habit))] for kind, habit in habits.items()}
    redis = _apart(draw, [fault for kind in REDIS for fault in drawn.get(kind, ())], seconds, REDIS_GAP_SECONDS)
    store = _apart(draw, [fault for kind in STORE for fault in drawn.get(kind, ())], seconds, STORE_GAP_SECONDS)
    alone = [faults for kind, faults in drawn.items() if kind not in (*REDIS, *STORE)]
    others = [fault for faults in alone for fault in _spread(draw, faults, seconds)]
    return sorted([*redis, *store, *others], key=lambda fault: fault.at)


def _count(seconds: float, habit: Habit) -> int:
    return max(1, round(seconds / habit.every)) if habit.every else 0


def _fault(draw: random.Random, kind: Break, habit: Habit) -> Fault:
    return Fault(kind, target=draw.randrange(1000), seconds=draw.uniform(habit.shortest, habit.longest))


def _apart(draw: random.Random, faults: list[Fault], seconds: float, gap: float) -> list[Fault]:
    """Places faults in a random order, with at least `gap` between the end of one and the beginning of the next."""
    draw.shuffle(faults)
    while faults and (spare := seconds - sum(f.seconds for f in faults) - gap * (len(faults) - 1)) < 0:
        faults.pop()
    if not faults:
        return []
    placed, busy = [], 0.0
    for fault, free in zip(faults, sorted(draw.uniform(0, spare) for _ in faults), strict=True):
        placed.append(replace(fault, at=free + busy))
        busy += fault.seconds + gap
    return placed


def _spread(draw: random.Random, faults: Sequence[Fault], seconds: float) -> list[Fault]:
    """Places each fault at a random moment of its own part of the time."""
    part = seconds / max(1, len(faults))
    moments = [part * (index + draw.random()) for index in range(len(faults))]
    return [replace(fault, at=min(at, seconds - fault.seconds)) for fault, at in zip(faults, moments, strict=True)]
