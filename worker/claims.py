"""The jobs that wait in the queues, and which of them a worker may claim beside the jobs that it has."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal

import redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import JobStatus as RqStatus

from jobs import keys
from jobs.contract import JOB_ID, URGENCIES
from jobs.errors import JobUnreadable
from jobs.rq_job import LONE_RETRIES, DataJob

from .active import ActiveJob
from .foreign_data import is_refusal
from .held_jobs import Claim
from .runner import Runner

log = logging.getLogger(__name__)

LOOKAHEAD = 100  # number of entries at the front of a queue that are examined
CROWDED = 2  # jobs per slot that a worker may hold at most while it takes over the jobs of dead workers
UNREADABLE_TTL = 60  # seconds that the record of an unreadable job is kept

# Takes the first job of one standing off a queue. As one script, so that no other worker takes the job in between.
_POP = """
for i = 0, ARGV[1] - 1 do
  local id = redis.call('LINDEX', KEYS[1], i)
  if not id then return nil end
  local function number(field)
    local value = redis.pcall('HGET', ARGV[2] .. id, field)
    return type(value) == 'string' and tonumber(value)
  end
  local suspect = (number('retries_left') or ARGV[3] + 1) <= tonumber(ARGV[3])
  local orphan = not suspect and (number('deaths') or 0) > 0
  if ({suspect = suspect, orphan = orphan, other = not suspect})[ARGV[4]] then
    if ARGV[5] == '1' then
      redis.call('LREM', KEYS[1], 1, id)
      redis.call('RPUSH', KEYS[2], id)
    end
    return id
  end
end
"""

Standing = Literal["suspect", "orphan", "other"]  # an orphan is one of the others


class Claims:
    """The queues of all models that are served.

    A job whose workers died several times without progress is a suspect: it may be the cause. It runs alone until its
    first snapshot, so that no other job fails with it. Any other job whose worker died is an orphan: it has waited
    long enough, and is claimed even beyond the slots.

    Args:
        client: the connection to Redis.
        runners: the models served at the start, by name.
    """

    def __init__(self, client: redis.Redis, runners: Mapping[str, Runner]) -> None:
        self._client = client
        self.serve(runners)
        self._suspect_waited = False

    def serve(self, runners: Mapping[str, Runner]) -> None:
        """Replaces the models whose queues are used."""
        self._runners = runners
        self._feeds = {keys.queue_name(model, each): (model, each) for each in URGENCIES for model in sorted(runners)}

    @property
    def types(self) -> dict[str, str]:
        """The Redis type of each key that belongs to a model."""
        return {keys.wake(model): "list" for model in self._runners} | {
            keys.backlog(model): "hash" for model in self._runners
        }

    @property
    def queue_names(self) -> list[str]:
        """The names of all queues, the most urgent first."""
        return list(self._feeds)

    def has_room(self, queue: Queue, held: Collection[Claim], *, crowded: bool = False) -> bool:
        """Returns whether a job of this queue would get a slot.

        It would if the model has more slots than held jobs that are at least as urgent.

        Args:
            crowded: whether `CROWDED` jobs per slot are allowed.
        """
        if any(claim.wants_no_company for claim in held):
            return False
        model, urgency = self._feeds[queue.name]
        rivals = [self._feeds[claim.queue.name] for claim in held if claim.queue.name in self._feeds]
        room = self._runners[model].slots * (CROWDED if crowded else 1)
        return sum(theirs == model and rank <= urgency for theirs, rank in rivals) < room

    def has_news(
        self, queues: Sequence[Queue], held: Collection[Claim], actives: Collection[ActiveJob], *, crowded: bool = False
    ) -> bool:
        """Returns whether there may be jobs to claim, and marks the jobs in flight that were cancelled.

        It sends a single command as long as there is neither, because a busy worker asks 20 times a second.

        Args:
            crowded: whether `CROWDED` jobs per slot are allowed.
        """
        waiting = [queue.key for queue in queues if self.has_room(queue, held, crowded=crowded)]
        flags = {keys.cancel(active.job.id): active for active in actives if not active.cancel}
        if not (waiting or flags) or not self._client.exists(*waiting, *flags):
            return False
        if flags:
            for active, flag in zip(flags.values(), self._client.mget(*flags), strict=True):
                active.cancel = flag is not None
        return True

    def make_room(self, queues: Sequence[Queue], actives: Collection[ActiveJob]) -> None:
        """Releases all running jobs if a suspect waits and no idle worker has taken it since the last call."""
        waits = bool(actives) and any(self._find(queue, "suspect", take=False) for queue in queues)
        if waits and self._suspect_waited and not any(active.alone for active in actives):
            for active in actives:
                active.release = True
        self._suspect_waited = waits

    def choose(
        self, queues: Sequence[Queue], held: Callable[[], Collection[Claim]], *, crowded: bool = False
    ) -> Iterator[tuple[DataJob, Queue]]:
        """Takes jobs off their queues while there is room for another one beside the jobs that `held` returns.

        Args:
            crowded: whether orphans are taken up to `CROWDED` jobs per slot.
        """
        if not held():
            for queue in queues:
                if (suspect := self.pop(queue, "suspect")) is not None:
                    yield suspect, queue
                    return
        if crowded:
            for queue in queues:
                while self.has_room(queue, held(), crowded=True) and (job := self.pop(queue, "orphan")) is not None:
                    yield job, queue
        for queue in queues:
            while self.has_room(queue, held()) and (job := self.pop(queue, "other")) is not None:
                yield job, queue

    def pop(self, queue: Queue, standing: Standing) -> DataJob | None:
        """Takes the next such job off a queue. None is lost: until it starts, RQ's intermediate queue has it."""
        for _ in range(LOOKAHEAD):
            entry = self._find(queue, standing, take=True)
            job = None if entry is None else self._read(entry, queue)
            if entry is None or job is not None:
                return job
        return None

    def _find(self, queue: Queue, standing: Standing, *, take: bool) -> bytes | None:
        names = (queue.key, queue.intermediate_queue.key)
        facts = (LOOKAHEAD, DataJob.key_for(""), LONE_RETRIES, standing, int(take))
        entry: bytes | None = self._client.eval(_POP, len(names), *names, *facts)
        return entry

    def _read(self, entry: bytes, queue: Queue) -> DataJob | None:
        """Returns the job that an entry of a queue names, or None after removing an entry that names none."""
        try:
            if not re.fullmatch(JOB_ID, entry.decode("ascii")):
                raise JobUnreadable("the entry is not a job id")
            job = DataJob.read(entry.decode(), self._client)
            if job.origin != queue.name:
                raise JobUnreadable("the job belongs in another queue")
            _ = job.func_name, job.kwargs  # RQ reads them when it starts a job, and would raise there
            return job
        except Exception as error:
            if isinstance(error, redis.RedisError) and not is_refusal(error):
                raise
            self._put_aside(entry, queue, error)
            return None

    def _put_aside(self, entry: bytes, queue: Queue, error: Exception) -> None:
        log.warning("removed from a queue: not a job", extra={"entry": repr(entry[:80]), "error": ascii(error)[:200]})
        with self._client.pipeline(transaction=False) as pipe:
            pipe.lrem(queue.intermediate_queue.key, 1, entry)  # type: ignore[arg-type]  # bytes work, too
            if not isinstance(error, (NoSuchJobError, UnicodeDecodeError)):
                record = DataJob.key_for(entry.decode())
                pipe.hset(record, "status", RqStatus.FAILED)
                pipe.expire(record, UNREADABLE_TTL)
            pipe.execute(raise_on_error=False)
