"""What workers and front ends wrote about jobs: claims, ends, and how long a killed worker's job waits for the next.

A log line is one JSON object. Only whole lines count: kill -9 may cut off the last.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

CLAIMED, ENDED, HANDED_BACK, ACCEPTED = "job claimed", "job ended", "job handed back", "job accepted"
BOUND = "job bound to another version"
GIVEN_AWAY = "a job was given to another worker, or has already ended"


@dataclass(frozen=True)
class Line:
    """An event of a job; `at` is in seconds since the epoch."""

    at: float
    event: str
    job_id: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Wait:
    """A job whose worker was killed, and when it was claimed again; seconds since the epoch."""

    job_id: str
    killed_at: float
    claimed_at: float

    @property
    def seconds(self) -> float:
        return self.claimed_at - self.killed_at

    def overlaps(self, spans: Iterable[tuple[float, float]]) -> bool:
        """Returns whether one of these spans of time touches the wait."""
        return any(begin < self.claimed_at and end > self.killed_at for begin, end in spans)


def read_log(path: Path) -> list[Line]:
    """Returns the lines about jobs of one process, in order."""
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            facts = json.loads(text)
            at = datetime.fromisoformat(facts["timestamp"].replace("Z", "+00:00")).timestamp()
            lines.append(Line(at, facts["event"], facts["job_id"], facts))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # half a line, no JSON, or about something else
    return lines


def in_flight(lines: Iterable[Line]) -> set[str]:
    """Returns the jobs that a process had claimed and not settled when its log ends."""
    jobs: set[str] = set()
    for line in lines:
        if line.event == CLAIMED:
            jobs.add(line.job_id)
        elif line.event in (ENDED, HANDED_BACK, GIVEN_AWAY):
            jobs.discard(line.job_id)
    return jobs


def waits(killed: Sequence[tuple[list[Line], float]], logs: Iterable[Sequence[Line]]) -> list[Wait]:
    """Returns the waits from each kill to the next claim of each job in flight; jobs never claimed again are left out.

    So are those that another worker had claimed before the kill, because this one was frozen.

    Args:
        killed: the log of each killed process, and when it was killed.
        logs: the logs of all workers.
    """
    claims: dict[str, list[float]] = {}
    for log in logs:
        for line in log:
            if line.event == CLAIMED:
                claims.setdefault(line.job_id, []).append(line.at)
    found = []
    for lines, at in killed:
        own = {line.job_id: line.at for line in lines if line.event == CLAIMED}  # of several the last
        for job_id in in_flight(lines):
            later = min((claim for claim in claims[job_id] if claim > own[job_id]), default=None)
            if later is not None and later > at:
                found.append(Wait(job_id, at, later))
    return found


def ended_more_than_once(logs: Iterable[Sequence[Line]]) -> list[str]:
    """Returns the jobs whose end was written twice."""
    seen = Counter(line.job_id for log in logs for line in log if line.event == ENDED)
    return [job_id for job_id, times in seen.items() if times > 1]
