"""Chooses the trajectories that share the next step, and forecasts when each job will be done."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from difuso.jobs.contract import URGENCIES

from ..stepping.trajectory import Trajectory
from .active import ActiveJob

BACKGROUND = URGENCIES[-1]  # RFC 9218 has it for work that nobody waits for
BACKGROUND_PAUSE = 10  # steps between two that are shared with such work while somebody waits


def share_slots(
    jobs: Sequence[ActiveJob], slots: int, turn: int, *, since_background: int = 0
) -> list[tuple[ActiveJob, Trajectory]]:
    """Gives each job an equal share of the slots, image by image; slots that a job cannot use go to the others.

    At least one trajectory is chosen, none twice, and their cost is at most `slots` unless a single one costs more.

    More urgent jobs come first. Within one urgency every job gets one slot before any gets a second. Background jobs,
    the least urgent, would slow down all others by filling up their steps. So among others they pause for
    BACKGROUND_PAUSE steps after each of theirs.

    Args:
        jobs: the jobs, in the order of their arrival.
        slots: number of slots of the batch; see `Trajectory.cost` for how many one image takes.
        turn: number of steps so far; it rotates which job goes first, so that a remainder is shared over time.
        since_background: number of steps since the last one in which a background job took part.
    """
    if since_background < BACKGROUND_PAUSE:
        waited_for = [active for active in jobs if active.job.urgency < BACKGROUND and active.unfinished]
        jobs = waited_for or jobs
    chosen: list[tuple[ActiveJob, Trajectory]] = []
    free = slots
    by_urgency = sorted(jobs, key=lambda active: active.job.urgency)
    for urgency, group in groupby(by_urgency, key=lambda active: active.job.urgency):
        waiting = [(active, active.unfinished) for active in group]
        # Counting all turns would skip some background jobs each time.
        shares = turn // (BACKGROUND_PAUSE + 1) if urgency == BACKGROUND else turn
        first = shares % len(waiting)
        waiting = waiting[first:] + waiting[:first]
        for depth in range(max(len(images) for _, images in waiting)):
            for active, images in waiting:
                # The first image is always chosen: with a single slot the runner makes two calls for a guided image.
                if depth < len(images) and (images[depth].cost <= free or not chosen):
                    chosen.append((active, images[depth]))
                    free -= images[depth].cost
            if free <= 0:
                return chosen
    return chosen


def forecast(jobs: Iterable[ActiveJob]) -> dict[ActiveJob, float]:
    """Returns the seconds until each job is done, if no other job arrives.

    By then each equally urgent job that its model steps has had as many image-steps as this one needs, or is done
    before. More urgent jobs are done, and less urgent ones have waited.
    """
    stages = {active: active.ahead for active in jobs}  # read once: the engine passes jobs on meanwhile
    left = {active: present.left for active, (present, *_) in stages.items()}

    def seconds(active: ActiveJob) -> float:
        present, *later = stages[active]
        urgency = active.job.urgency
        rivals = [other for other in stages if stages[other][0].runner is present.runner]
        earlier = sum(left[other] for other in rivals if other.job.urgency < urgency)
        shared = sum(min(left[other], left[active]) for other in rivals if other.job.urgency == urgency)
        return present.seconds(earlier + shared) + sum(stage.seconds(stage.left) for stage in later)

    return {active: seconds(active) for active in stages}
