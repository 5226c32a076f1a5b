"""What a worker does to the records of RQ, for many jobs in flight; `rq_scripts` has the layout and the scripts."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import redis
from rq.job import Job as RqJob

from difuso.jobs.redis.job_records import MAX_RETRIES, RESUMED_AT, JobRecord
from difuso.jobs.redis.keys import NAMES, QueueName, failed_key, finished_key, known_queues, queue_key, running_key
from difuso.jobs.redis.refusals import is_refused_for_good

from ..engine.held_jobs import Claim
from . import rq_scripts
from .recovery import Recovery
from .rq_scripts import EXECUTION_TTL, Answer, End

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Forgets the name of a queue, unless one of its lists and registries is there. Its next job brings it back.
_FORGET = """
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return end
end
redis.call('SREM', KEYS[1], ARGV[1])
"""


class GaveUp(Exception):
    """The time in which this worker may wait for Redis or the store is over."""


class RqBase:
    """A worker's operations on Redis: heartbeats, claims, recovery and hand-over, each safe to repeat.

    Args:
        client: the connection to Redis, with a socket timeout of some seconds.
        queues: the queues to claim from, in order of urgency.

    Attributes:
        turns: grows as long as the main thread lives, for the watchdog.
        give_up_at: time on the monotonic clock at which waiting for Redis ends; infinite until the worker is to stop.
    """

    def __init__(self, client: redis.Redis, queues: Sequence[QueueName], name: str) -> None:
        self.connection = client
        self.name = name
        self.queues = queues
        self.turns = 0
        self._trouble_at = -float("inf")
        self._last_beat = time.monotonic()
        self._recovery = Recovery(client)
        self.give_up_at = float("inf")

    def _known(self) -> list[QueueName]:
        """Returns the queues of all versions, also of those that no worker holds any longer."""
        return list(dict.fromkeys([*self.queues, *known_queues(self.connection)]))

    # Waiting for Redis, which may go away at any time.

    def retry_until_deadline(self, call: Callable[[], Result]) -> Result:
        """Repeats a call until it succeeds.

        Raises:
            GaveUp: if it still fails after `give_up_at`.
            redis.ResponseError: if Redis refuses it because of the data that it holds.
        """
        pause = 0.2
        while True:
            self.turns += 1
            try:
                return call()
            except redis.exceptions.DataError:
                raise  # our mistake, which no retry mends
            except redis.RedisError as error:  # away, loading, read-only, out of memory or disk: all may pass
                if time.monotonic() > self.give_up_at:
                    raise GaveUp from error
                if is_refused_for_good(error):
                    raise
                log.warning("a command to Redis failed (%s: %s); trying again", type(error).__name__, error)
                self.note_trouble()
                time.sleep(pause)
                pause = min(2 * pause, 1.0)

    def note_trouble(self) -> None:
        """Remembers that Redis did not answer."""
        self._trouble_at = time.monotonic()

    @property
    def heartbeat_due(self) -> bool:
        """Whether Redis was away since the last heartbeat, so that the next one is due at once."""
        return self._trouble_at > self._last_beat

    # Jobs.

    def beat(self, held: Sequence[Claim]) -> list[Claim]:
        """Sends the heartbeats of the jobs that run here; returns those that are not ours any more."""
        self._last_beat = time.monotonic()
        answers = rq_scripts.beat(self.connection, held) if held else []
        self._restore(held, answers)
        return [claim for claim, answer in zip(held, answers, strict=True) if answer is Answer.LOST]

    def credit(self, record: JobRecord, image_steps: int) -> None:
        """Gives a job its tries back if the image-steps of its snapshot are more than at its last start."""
        if image_steps > record.resumed_at:
            self.connection.hset(
                RqJob.key_for(record.id), mapping={RESUMED_AT: image_steps, "retries_left": MAX_RETRIES}
            )
            record.resumed_at, record.retries_left = image_steps, MAX_RETRIES

    def end(self, ends: Sequence[End], *, at: float) -> list[bool]:
        """Ends jobs; returns for each whether it was ours, and nothing is written for the others."""
        answers = rq_scripts.end(self.connection, ends, self.name, at=at)
        if self._restore([each.claim for each in ends], answers):
            answers = rq_scripts.end(self.connection, ends, self.name, at=at)
        return [answer is Answer.OURS for answer in answers]

    def hand_back(self, claim: Claim, *, at_front: bool = True) -> None:
        """Puts a running job back into its queue, unless it is another's. A repeated call changes nothing."""
        if self._restore([claim], [rq_scripts.hand_back(self.connection, claim, at_front=at_front)]):
            rq_scripts.hand_back(self.connection, claim, at_front=at_front)

    def _restore(self, claims: Sequence[Claim], answers: Sequence[Answer]) -> bool:
        """Writes again the running jobs that Redis has lost; returns whether there are any."""
        gone = [claim for claim, answer in zip(claims, answers, strict=True) if answer is Answer.GONE]
        with self.connection.pipeline() as pipe:
            for claim in gone:
                now = {"status": "started", "worker_name": self.name}
                if claim.record.started_at is not None:
                    now["started_at"] = rq_scripts.stamp(claim.record.started_at)
                pipe.hset(RqJob.key_for(claim.record.id), mapping={**claim.record.fields, **now})  # type: ignore[dict-item]
                pipe.zadd(running_key(claim.queue), {claim.entry: time.time() + EXECUTION_TTL})
                pipe.sadd(NAMES, queue_key(claim.queue))
            pipe.execute()
        return bool(gone)

    def recover(self) -> list[JobRecord]:
        """Returns the jobs of dead workers to their queues. Returns the jobs that are given up instead."""
        return self._recovery.run(self._known())

    def tidy(self) -> None:
        """Removes expired entries from RQ's registries, and queues without any; several workers may do so at once."""
        for name in self._known():
            registries = finished_key(name), failed_key(name)
            for registry in registries:
                self.connection.zremrangebyscore(registry, 0, time.time())
            names = (NAMES, queue_key(name), running_key(name), *registries)
            self.connection.eval(_FORGET, len(names), *names, queue_key(name))
