"""What a whole fleet asks of its one Redis, and how large it may be."""

from __future__ import annotations

from dataclasses import replace

from worker.recovery import HEARTBEAT_SECONDS, LOOKAHEAD, RECOVERY_SECONDS

from .rates import Cost, RedisCosts

BUSY = 0.7  # share of its time in which Redis' main thread may be busy; beyond, commands queue
MOST_WORKERS = 100_000


def demand(costs: RedisCosts, *, workers: float, busy: float, jobs: float, running: float) -> dict[str, Cost]:
    """Returns what a fleet costs Redis in a second, by act.

    Args:
        busy: share of the workers that have jobs.
        jobs: jobs per second.
        running: unfinished jobs.
    """
    beats = workers / HEARTBEAT_SECONDS
    return {
        "jobs: POST, claim, end": costs.job * jobs,
        "jobs: progress": costs.held * running,
        "workers: polls, heartbeats": costs.idle * (workers * (1 - busy)) + costs.busy * (workers * busy),
        "POST reads all workers": costs.post_worker * (jobs * workers),
        "POST reads all jobs": costs.post_job * (jobs * running),
        "heartbeat reads all workers": costs.beat_worker * (beats * workers),
        "heartbeat reads all jobs": costs.beat_job * (beats * running),
        "look for dead workers": costs.look_job * (workers / RECOVERY_SECONDS * min(LOOKAHEAD, running)),
    }


def largest_fleet(costs: RedisCosts, *, busy: float, jobs: float, running: float, share: float = BUSY) -> int:
    """Returns the most workers that one Redis carries; `jobs` and `running` are those of each worker."""

    def fits(workers: int) -> bool:
        parts = demand(costs, workers=workers, busy=busy, jobs=jobs * workers, running=running * workers)
        return sum(cost.seconds for cost in parts.values()) <= share

    low, high = 0, MOST_WORKERS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def relieved(costs: RedisCosts) -> dict[str, RedisCosts]:
    """Returns the costs as they would be if one thing cost nothing."""
    free = Cost()
    return {
        "nothing is changed": costs,
        "POST read sums, not the fleet": replace(costs, post_worker=free, post_job=free),
        "one worker tidied for all": replace(costs, beat_worker=free, beat_job=free, look_job=free),
        "both": replace(costs, post_worker=free, post_job=free, beat_worker=free, beat_job=free, look_job=free),
        "both, and a job cost half": replace(
            costs, post_worker=free, post_job=free, beat_worker=free, beat_job=free, look_job=free, job=costs.job * 0.5
        ),
    }
