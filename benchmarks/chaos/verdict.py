"""The table: the results of the run, and the promises."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.report import Bar, quantile

from .client import Errand, Hashes
from .orders import Recipe
from .worker_logs import ACCEPTED, BOUND, ENDED, Line, Wait, ended_more_than_once

KNOWN_SECONDS = 5.0  # from when no front end may accept: each tries the store once a second, and Redis may be slow
CANCEL_SECONDS = 10.0  # a cancelled job ends at its next step; a frozen or busy machine gets this long
Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Evidence:
    """All observations of a run.

    Attributes:
        reference: the images of each recipe without faults, by the version of the model.
        workers, apis: the log lines of each process.
        waits: from each kill -9 to the next claim of each job in flight.
        redis_away: when Redis did not answer, in seconds since the epoch.
        store_full: when the store's disk was full, in seconds since the epoch.
        executed: the image-steps that all workers made, counted by themselves.
        unsaved: those of them that no worker could go on from, because the store took no snapshots.
        unasked: the processes that ended by themselves, and how.
        killers: the ids of the poison jobs that workers ran when something other than the driver killed them.
        called: the ids of the jobs whose webhook was called, and taken.
        keys, files: the leftovers.
        breaks: how often each fault was made.
    """

    errands: Sequence[Errand]
    recipes: Sequence[Recipe]
    reference: Mapping[tuple[str, int], Hashes]
    workers: Sequence[Sequence[Line]]
    apis: Sequence[Sequence[Line]]
    waits: Sequence[Wait]
    redis_away: Spans
    executed: float
    unsaved: float = 0.0
    store_full: Spans = ()
    unasked: Sequence[str] = ()
    killers: Collection[str] = ()
    called: Collection[str] = ()
    keys: Sequence[str] = ()
    files: Sequence[str] = ()
    breaks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Figures, and promises that were kept or broken.

    Attributes:
        rows: the rows of the table, name and value.
        bars: one bar for each promise.
        details: the cases behind the figures, to find the cause.
    """

    rows: Sequence[tuple[str, str]]
    bars: Sequence[Bar]
    details: Mapping[str, object]

    @property
    def kept(self) -> bool:
        return all(bar.met for bar in self.bars)


def judge(evidence: Evidence, *, claim_seconds: float, repeated: float) -> Verdict:
    """Compares the observations with the promises.

    Args:
        claim_seconds: the most seconds from a kill -9 to the next claim, where Redis answered.
        repeated: the share of all image-steps that may be made a second time although the store took snapshots.
    """
    broken, share = cases(evidence), repeated_share(evidence)
    unsaved = min(share, evidence.unsaved / evidence.executed) if evidence.executed else 0.0
    clear = [wait.seconds for wait in evidence.waits if not wait.overlaps(evidence.redis_away)]
    disturbed = [wait.seconds for wait in evidence.waits if wait.overlaps(evidence.redis_away)]
    bars = [
        *(Bar(what, len(found), 0, "", "at most") for what, found in broken.items()),
        Bar("repeated steps, where snapshots were taken", 100 * (share - unsaved), 100 * repeated, "%", "at most"),
        Bar("kill -9 to next claim, max", max(clear, default=0.0), claim_seconds, "s", "at most"),
    ]
    rows = [
        *_circumstances(evidence),
        *((what, _count(found)) for what, found in broken.items()),
        ("repeated steps", f"{100 * share:.1f} % of {evidence.executed:.0f}"),
        ("of them where the store took no snapshots", f"{100 * unsaved:.1f} %"),
        ("steps by a version that went", f"{void_steps(evidence).total()}"),
        ("kill -9 to next claim, median and max", _seconds(clear)),
        ("the same, where Redis was away meanwhile", _seconds(disturbed)),
    ]
    details: dict[str, object] = {
        what: [_case(item, evidence.recipes) for item in found] for what, found in broken.items() if found
    }
    details["seconds to next claim"] = {wait.job_id: round(wait.seconds, 1) for wait in evidence.waits}
    return Verdict(rows, bars, details)


def cases(evidence: Evidence) -> dict[str, Sequence[Errand | str]]:
    """Returns every case of a broken promise, under its name; most kinds should have none."""
    errands, recipes = evidence.errands, evidence.recipes
    accepted = [errand for errand in errands if errand.ids]
    failed = [errand for errand in errands if errand.state == "failed"]
    poison = [errand for errand in errands if recipes[errand.wanted].fatal]
    return {
        "lost": [errand for errand in accepted if errand.lost],
        "stuck": [errand for errand in accepted if not errand.is_over and not errand.lost],
        "failed, except poison": [errand for errand in failed if not recipes[errand.wanted].fatal],
        "poison that killed no worker": [errand for errand in poison if errand.ids.isdisjoint(evidence.killers)],
        "poison that did not fail": [errand for errand in poison if errand.is_over and errand.failure != "worker_lost"],
        "wrong bytes": [
            errand
            for errand in errands
            if errand.pictures not in (None, evidence.reference.get((errand.version, errand.wanted)))
        ],
        "ended twice": [*ended_more_than_once(evidence.workers), *(errand for errand in accepted if errand.flipped)],
        "keys with two jobs": [errand for errand in accepted if len(errand.ids) > 1],
        "accepted while the disk was full": accepted_while_full(evidence),
        "cancels ignored": [errand for errand in accepted if _ignored(errand, evidence.redis_away)],
        "webhooks that never came": [errand for errand in accepted if not errand.ids <= {*evidence.called}],
        "answers that no client should get": [text for errand in errands for text in errand.surprises],
        "processes that ended by themselves": evidence.unasked,
        "keys left after the TTL": evidence.keys,
        "files left after the TTL": evidence.files,
    }


def accepted_while_full(evidence: Evidence) -> list[str]:
    """Returns the ids of new jobs that were accepted once front ends must have known that the disk was full."""
    spans = [(began + KNOWN_SECONDS, ended) for began, ended in evidence.store_full]
    lines = [line for log in evidence.apis for line in log if line.event == ACCEPTED]
    return [line.job_id for line in lines if any(began <= line.at <= ended for began, ended in spans)]


def repeated_share(evidence: Evidence) -> float:
    """Returns the image-steps beyond those that the jobs needed, as a share of all that were made.

    A job that succeeded needed all of its steps, and every other job those of its last report. So up to a second of a
    cancelled job's steps counts as repeated, although it is not. Steps of a job before it was bound to another version
    do not count if it succeeded: no worker could have gone on from them.
    """
    sizes = {
        line.job_id: line.facts.get("image_steps", 0) for log in evidence.apis for line in log if line.event == ACCEPTED
    }
    done = {job_id: errand.steps for errand in evidence.errands for job_id in errand.ids}
    succeeded = {
        line.job_id
        for log in evidence.workers
        for line in log
        if line.event == ENDED and line.facts.get("outcome") == "succeeded"
    }
    needed = sum(sizes.get(job_id, done.get(job_id, 0)) for job_id in succeeded)
    needed += sum(steps for job_id, steps in done.items() if job_id not in succeeded)
    void = void_steps(evidence)
    needed += sum(void[job_id] for job_id in succeeded)
    return max(0.0, evidence.executed - needed) / evidence.executed if evidence.executed else 0.0


def void_steps(evidence: Evidence) -> Counter[str]:
    """Returns by job the image-steps behind it when it was bound to another version, and began again."""
    void = Counter[str]()
    for line in (line for log in evidence.workers for line in log if line.event == BOUND):
        void[line.job_id] += line.facts["image_steps"]
    return void


def _ignored(errand: Errand, redis_away: Spans) -> bool:
    """Returns whether a job went on to succeed although DELETE had been answered long before."""
    asked, ended = errand.cancelled_at, errand.ended_at
    if asked is None or ended is None or errand.state != "succeeded" or ended - asked < CANCEL_SECONDS:
        return False
    return not any(begin < ended and end > asked for begin, end in redis_away)


def _case(item: Errand | str, recipes: Sequence[Recipe]) -> object:
    if isinstance(item, str):
        return item
    recipe = recipes[item.wanted]
    return {
        "ids": sorted(item.ids),
        "at": round(item.order.at, 1),
        "request": [recipe.path, *("=".join(pair) for pair in recipe.parameters)],
        "order": {name: value for name, value in vars(item.order).items() if value},
        "state": item.state,
        "failure": item.failure,
        "surprises": item.surprises,
    }


def _circumstances(evidence: Evidence) -> list[tuple[str, str]]:
    """Returns the circumstances of the run."""
    errands = evidence.errands
    states = Counter(errand.state or "never accepted" for errand in errands)
    poison = [errand for errand in errands if evidence.recipes[errand.wanted].fatal]
    return [
        ("faults", ", ".join(f"{count} {name}" for name, count in sorted(evidence.breaks.items()))),
        ("posts", f"{len(errands)} ({', '.join(f'{count} {state}' for state, count in states.most_common())})"),
        ("ids", str(len({job_id for errand in errands for job_id in errand.ids}))),
        ("pictures compared", str(sum(len(errand.pictures or ()) for errand in errands))),
        ("poison jobs, and those that killed a worker", f"{len(poison)}, {len(evidence.killers)}"),
        ("seconds with a full disk", f"{sum(ended - began for began, ended in evidence.store_full):.0f}"),
        ("cancels", str(sum(errand.cancelled_at is not None for errand in errands))),
    ]


def _count(found: Sequence[Errand | str]) -> str:
    """Returns the number of jobs, and for failed jobs the reasons."""
    causes = Counter(item.failure for item in found if isinstance(item, Errand) and item.failure)
    named = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items()))
    return f"{len(found)} ({named})" if named else str(len(found))


def _seconds(values: Sequence[float]) -> str:
    return f"{median(values):.1f} s, {quantile(values, 1.0):.1f} s, of {len(values)}" if values else "none"
