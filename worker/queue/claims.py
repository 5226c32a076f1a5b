"""The jobs that wait in the queues: which of them a worker may claim in addition to its own, and their start."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import redis
from rq.job import Job as RqJob

from difuso.jobs.errors import JobUnreadable
from difuso.jobs.redis import keys
from difuso.jobs.redis.job_records import LONE_RETRIES, JobRecord
from difuso.jobs.redis.keys import QueueName
from difuso.jobs.redis.queued import drop_unreadable
from difuso.jobs.redis.queues import popped_key, queue_key, queues_of

from ..engine.active import ActiveJob
from ..engine.held_jobs import Claim
from ..stepping.runner import Runner

log = logging.getLogger(__name__)

LOOKAHEAD = 100  # number of entries at the front of a queue that are examined
CROWDED = 2  # jobs per slot that a worker may hold at most while it takes over the jobs of dead workers

# What both scripts know of a job: a suspect may have killed its workers, an orphan is another whose worker died. A
# suspect that was put off rests for a while, twice as long each time; or it would keep all other jobs waiting.
_STANDING = """
local lookahead, prefix, lone, now = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local function number(id, field)
  local value = redis.call('HGET', prefix .. id, field)
  return value and tonumber(value)
end
local function is_suspect(id) return (number(id, 'retries_left') or lone + 1) <= lone end
local function wants_a_worker(id)
  local put_offs = number(id, 'put_offs') or 0
  local rests = put_offs > 0 and now < (number(id, 'put_off_at') or 0) + 2 ^ put_offs
  return is_suspect(id) and not rests
end
"""
_SUSPECT_WAITS = (
    _STANDING
    + """
for _, queue in ipairs(KEYS) do
  for _, id in ipairs(redis.call('LRANGE', queue, 0, lookahead - 1)) do
    if wants_a_worker(id) then return 1 end
  end
end
return 0
"""
)
# Takes jobs off the queues, and returns the number of the queue, the entry and the record of each. As one script, so
# that no other worker takes them in between. KEYS holds each queue and its intermediate queue, the most urgent first;
# ARGV holds for each queue its ref, its urgency, and its room for orphans and for others.
_TAKE = (
    _STANDING
    + """
local taken = {}
local function fact(queue, index) return ARGV[2 + 4 * queue + index] end
local function has_room(queue, room)
  for _, each in ipairs(taken) do
    local same = fact(each[1], 0) == fact(queue, 0)
    if same and tonumber(fact(each[1], 1)) <= tonumber(fact(queue, 1)) then room = room - 1 end
  end
  return room > 0
end
local function take(queue, room, wanted)
  local i = 0
  for _ = 1, lookahead do
    local id = has_room(queue, room) and redis.call('LINDEX', KEYS[2 * queue - 1], i)
    if not id then return end
    if wanted(id) then
      redis.call('LREM', KEYS[2 * queue - 1], 1, id)
      redis.call('RPUSH', KEYS[2 * queue], id)
      taken[#taken + 1] = {queue, id, redis.call('HGETALL', prefix .. id)}
    else
      i = i + 1
    end
  end
end
local queues = #KEYS / 2
if ARGV[5] == '1' then
  for queue = 1, queues do
    if #taken == 0 then take(queue, 1, wants_a_worker) end
  end
  if #taken > 0 then return taken end
end
local function is_orphan(id) return not is_suspect(id) and (number(id, 'deaths') or 0) > 0 end
for queue = 1, queues do take(queue, tonumber(fact(queue, 2)), is_orphan) end
for queue = 1, queues do take(queue, tonumber(fact(queue, 3)), function(id) return not is_suspect(id) end) end
return taken
"""
)


class Claims:
    """The queues of all versions of models that are served.

    A job whose workers died several times without progress is a suspect: it may be the cause. It runs alone until its
    first snapshot, so that no other job fails with it. Any other job whose worker died is an orphan: it has waited
    long enough, and is claimed even beyond the slots.
    """

    def __init__(self, client: redis.Redis, runners: Mapping[str, Runner]) -> None:
        self._client = client
        self.serve(runners)
        self._suspect_waited = False

    def serve(self, runners: Mapping[str, Runner]) -> None:
        """Replaces the versions of models whose queues are used, by ref."""
        self._runners = runners

    @property
    def queues(self) -> list[QueueName]:
        """All queues, the most urgent first."""
        return sorted((name for ref in sorted(self._runners) for name in queues_of(ref)), key=lambda name: name.urgency)

    def room(self, queue: QueueName, held: Collection[Claim], *, crowded: bool = False) -> int:
        """Returns how many jobs of this queue would get a slot: the slots that no held job as urgent has.

        `CROWDED` jobs per slot are allowed if it is crowded, here and below.
        """
        if any(claim.wants_no_company for claim in held):
            return 0
        rivals = [claim.queue for claim in held if claim.queue.ref == queue.ref]
        slots = self._runners[queue.ref].slots * (CROWDED if crowded else 1)
        return max(0, slots - sum(each.urgency <= queue.urgency for each in rivals))

    def has_news(
        self,
        queues: Sequence[QueueName],
        held: Collection[Claim],
        actives: Collection[ActiveJob],
        *,
        crowded: bool = False,
    ) -> bool:
        """Returns whether there may be jobs to claim, and marks the jobs in flight that were cancelled.

        It sends a single command as long as there is neither, because a busy worker asks 50 times a second.
        """
        waiting = [queue_key(queue) for queue in queues if self.room(queue, held, crowded=crowded)]
        flags = {keys.cancel(active.job.id): active for active in actives if not active.cancel}
        if not (waiting or flags) or not self._client.exists(*waiting, *flags):
            return False
        if flags:
            for active, flag in zip(flags.values(), self._client.mget(*flags), strict=True):
                active.cancel = flag is not None
        return True

    def make_room(self, queues: Sequence[QueueName], actives: Collection[ActiveJob]) -> None:
        """Releases all running jobs if a suspect waits and no idle worker has taken it since the last call."""
        names = list(map(queue_key, queues))
        waits = bool(actives) and bool(self._client.eval(_SUSPECT_WAITS, len(names), *names, *_facts()))
        if waits and self._suspect_waited and not any(active.alone for active in actives):
            for active in actives:
                active.release = True
        self._suspect_waited = waits

    def take(self, queues: Sequence[QueueName], held: Collection[Claim], *, crowded: bool = False) -> list[Claim]:
        """Takes off their queues all jobs that would get a slot in addition to the held ones, in one round trip.

        None is lost: until a job starts, RQ's intermediate queue has it. A suspect is taken only without company.
        """
        names = [key(queue) for queue in queues for key in (queue_key, popped_key)]
        facts: list[str | int] = []
        for queue in queues:
            facts += queue.ref, queue.urgency
            facts += self.room(queue, held, crowded=True) if crowded else 0, self.room(queue, held)
        claims: list[Claim] = []
        while not claims:  # as long as only entries are found that are not jobs
            found: Any = self._client.eval(_TAKE, len(names), *names, *_facts(), int(not held), *facts)
            for number, entry, fields in found:
                record = self._read(entry, dict(zip(fields[::2], fields[1::2], strict=True)), queues[number - 1])
                if record is not None:
                    claims.append(Claim(record))
            if not found:
                break
        return claims

    def _read(self, entry: bytes, fields: Mapping[bytes, bytes], queue: QueueName) -> JobRecord | None:
        """Returns the record of the job that an entry of a queue names; None after removing one that names none."""
        try:
            record = JobRecord.of(entry.decode(), fields)
            if record.queue != queue:
                raise JobUnreadable("the job belongs in another queue")
            return record
        except Exception as error:
            drop_unreadable(self._client, popped_key(queue), entry, error)
            return None


def _facts() -> tuple[int | str | float, ...]:
    """Returns the first arguments of both scripts."""
    return LOOKAHEAD, RqJob.key_for(""), LONE_RETRIES, time.time()
