"""Which trajectories share the next step, and how long that takes each job."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .active import ActiveJob
from .runner import Runner
from .trajectory import Trajectory


def share_slots(jobs: Sequence[ActiveJob], slots: int, turn: int) -> list[tuple[ActiveJob, Trajectory]]:
    """Gives each job an equal part of the slots, image by image; what a job cannot use goes to the others.

    More urgent jobs come first and take what they need. Within one urgency every job gets one slot before any gets a
    second, so that one image of ten steps never waits for 64 of a thousand. Trajectories that get no slot pause.

    Args:
        jobs: in the order of their arrival.
        slots: of the batch; an image under guidance takes two.
        turn: counts the steps; it rotates who goes first, so that a remainder is shared over time.

    Returns:
        The chosen trajectories with their jobs; at least one, none twice, and their cost is at most `slots`.
    """
    chosen: list[tuple[ActiveJob, Trajectory]] = []
    free = slots
    by_urgency = sorted(jobs, key=lambda active: active.job.urgency)
    for _, group in groupby(by_urgency, key=lambda active: active.job.urgency):
        waiting = [(active, active.unfinished) for active in group]
        first = turn % len(waiting)
        waiting = waiting[first:] + waiting[:first]
        for depth in range(max(len(images) for _, images in waiting)):
            for active, images in waiting:
                # The first one always fits: with a single slot a guided image is computed in two calls.
                if depth < len(images) and (images[depth].cost <= free or not chosen):
                    chosen.append((active, images[depth]))
                    free -= images[depth].cost
            if free <= 0:
                return chosen
    return chosen


def forecast(jobs: Sequence[ActiveJob], runner: Runner) -> dict[ActiveJob, float]:
    """Seconds until each job is done, if no other comes.

    By then each of its equals has had as many image-steps as it needs itself, or is done before; more urgent ones are
    done, less urgent ones have waited. And no image takes its steps faster than it would alone.

    Args:
        jobs: all that `runner` has.
    """
    left = {active: active.left for active in jobs}

    def seconds(active: ActiveJob) -> float:
        mine, urgency = left[active], active.job.urgency
        earlier = sum(steps for other, steps in left.items() if other.job.urgency < urgency)
        shared = sum(min(steps, mine) for other, steps in left.items() if other.job.urgency == urgency)
        alone = active.rounds * runner.step_seconds
        return max((earlier + shared) / runner.rate, alone)

    return {active: seconds(active) for active in jobs}
