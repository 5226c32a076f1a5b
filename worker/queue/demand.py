"""Loads the models that jobs wait for, and unloads others, where DIFUSO_MODELS_MEMORY has no room for all of them.

Room is made by models without jobs, of which the one that was not used for longest goes first. Where all have jobs, a
model that has waited for its turn gets that of the one that was loaded first, after a turn of its own: this claims no
more, ends the jobs that it has, and goes. Waits and turns are long beside the time of loading, which so takes a small
part of all. A model that another worker holds is loaded here, too, if its jobs wait as long.
"""

import time
from collections.abc import Collection

import redis

from difuso.jobs import understanding
from difuso.jobs.redis.keys import known_queues, queue_key
from difuso.jobs.redis.workers import ask_reports, read_reports

from ..engine.held_jobs import Claim, RunningJob
from ..engine.models import ModelFollower
from ..engine.served_models import Models
from .claims import Claims
from .job_reading import known_job

LOOK_SECONDS = 0.3  # between two looks, while some models are not loaded
LEAST_PATIENCE = 5.0  # seconds
PATIENCE = 4  # times the seconds that loading takes


def patience(models: Models, ref: str) -> float:
    """Returns the seconds that a version waits before it takes the place of one with jobs, and stays in it at least."""
    return max(LEAST_PATIENCE, PATIENCE * models.load_seconds(ref))


class Demand:
    """Notes since when this worker has seen jobs wait for each version that it has not loaded."""

    def __init__(self, client: redis.Redis, follower: ModelFollower, claims: Claims, worker: str) -> None:
        self._client, self._follower, self._claims, self._worker = client, follower, claims, worker
        self._look_at = 0.0
        self._since: dict[str, float] = {}
        self._begun: dict[str, float] = {}  # when each version was first seen loaded

    @property
    def is_pressing(self) -> bool:
        """Whether jobs waited at the last look for a version that is not loaded yet."""
        return not self._since.keys().isdisjoint(self._follower.models.loadable)

    def look(self, held: Collection[Claim], waiting: Collection[Claim]) -> None:
        """Loads a model, or begins to make room for it, unless it has looked a moment ago.

        Args:
            held: all jobs that this worker holds.
            waiting: those of them that need a model which is not loaded.
        """
        models, now = self._follower.models, time.monotonic()
        if not models.loadable:
            self._claims.close([])  # nothing to make room for, also if it was removed meanwhile
            return
        if now < self._look_at or self._follower.is_busy or self._claims.is_unanswered:
            return
        self._look_at = now + LOOK_SECONDS
        first = {ref for claim in [*waiting][:1] for ref in _refs(claim)}  # the others give way, or none would begin
        running = first & models.runners.keys()
        running |= {ref for claim in held if claim not in waiting for ref in _refs(claim)}
        queued, elsewhere = self._queued()
        stay = {ref for ref in models.loadable if models.keeps(ref)}
        asked = dict.fromkeys([*first, *stay, *sorted(queued, key=queued.__getitem__)])
        since = self._since = {ref: self._since.get(ref, now) for ref in asked if ref in models.loadable}
        # Those that have waited for longest come first. To be more urgent by one counts like one patience more, so that
        # urgent ones, which come back again and again, starve no other.
        age = {ref: at + patience(models, ref) * queued.get(ref, 0) for ref, at in since.items()}
        order = sorted(since, key=lambda ref: (ref not in first, ref not in stay, age[ref]))
        begun = self._begun = {ref: self._begun.get(ref, now) for ref in models.runners}
        had_turn = {ref for ref, at in begun.items() if now - at >= patience(models, ref)}
        busy, closing = running.union(queued), list[str]()
        for ref in order:
            has_waited = now - since[ref] >= patience(models, ref)
            if ref in elsewhere - first - stay and not has_waited:
                continue
            gone = making_room(models, ref, busy, even=had_turn if has_waited or ref in stay else ())
            if gone is None:
                continue
            if running.intersection(gone):
                closing = gone
            elif gone:
                self._follower.unload(gone)
                self._look_at = 0.0  # to load at the next turn, when the rest of the worker has let go of them
            else:
                self._follower.load(ref)
            break
        self._claims.close(closing)

    def _queued(self) -> tuple[dict[str, int], set[str]]:
        """Returns the highest urgency of the jobs that wait for each version, and the versions that others hold."""
        names = [name for name in known_queues(self._client) if name.contract <= understanding.CONTRACT]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(queue_key(name))
            ask_reports(pipe)
            *filled, answer = pipe.execute()
        queued: dict[str, int] = {}
        for name, is_filled in zip(names, filled, strict=True):  # the most urgent first
            if is_filled and self._claims.may_claim(name):
                queued.setdefault(name.ref, name.urgency)
        others = (each for each in read_reports(answer) if each.name != self._worker)
        return queued, {model.ref for each in others for model in each.models if model.ready or model.loading}


def making_room(models: Models, ref: str, busy: Collection[str], *, even: Collection[str]) -> list[str] | None:
    """Returns the versions to unload so that one can be loaded; None if that is not possible now.

    Args:
        busy: the versions that have jobs.
        even: those of them that may be unloaded, too, once their jobs have ended.
    """
    may_go = [each for each in models.runners if not models.keeps(each)]
    idle = sorted((each for each in may_go if each not in busy), key=lambda each: models.runners[each].used_at)
    short, gone = models.bytes(ref) - models.free, list[str]()
    for each in [*idle, *(each for each in may_go if each in busy and each in even)]:
        if short <= 0:
            break
        gone.append(each)
        short -= models.runners[each].bytes
    return gone if short <= 0 else None


def _refs(claim: Claim) -> Collection[str]:
    """Returns the versions that a held job needs."""
    job = claim.active.job if isinstance(claim, RunningJob) else known_job(claim.record)
    return [claim.queue.ref] if job is None else job.refs
