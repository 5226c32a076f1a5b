"""The jobs that wait in the queues: which of them a worker may claim in addition to its own, and their start."""

import logging
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import redis
from rq.job import Job as RqJob

from difuso.jobs.errors import JobUnreadable
from difuso.jobs.redis import keys
from difuso.jobs.redis.holds import Holds
from difuso.jobs.redis.job_records import LONE_RETRIES, JobRecord
from difuso.jobs.redis.keys import QueueName, queue_key, queues_of, running_key
from difuso.jobs.redis.queued import drop_unreadable

from ..engine.active import ActiveJob
from ..engine.held_jobs import Claim
from ..stepping.runner import Runner
from .rq_scripts import EXECUTION_TTL, stamp

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
# Takes jobs off the queues and starts them, as one script, so that no job is lost or taken twice. Returns the number of
# the queue, the id and the record of each, as it was before. An id without a record is taken only. The receipt says
# what the last call took: repeated, as after a lost reply, it has the same answer, without the jobs that were recovered
# since, or whose version this worker has let go of. KEYS holds the receipt, each queue with the set of its running
# jobs, the most urgent first, and the lists that idle workers block on. ARGV holds for each queue its ref, its urgency,
# and its room for orphans and for others.
_TAKE = (
    _STANDING
    + """
local worker, stamp, expires, execution, queues = unpack(ARGV, 6, 10)
queues = tonumber(queues)
local function queue_key(queue) return KEYS[2 * queue] end
local function running_key(queue) return KEYS[2 * queue + 1] end

local receipt = redis.call('GET', KEYS[1])
local last = receipt and cjson.decode(receipt)
if last and last.execution == execution then
  local still, numbers = {}, {}
  for queue = 1, queues do numbers[running_key(queue)] = queue end
  for _, each in ipairs(last.taken) do
    local running, id = unpack(each)
    if numbers[running] and redis.call('ZSCORE', running, id .. ':' .. execution) then
      still[#still + 1] = {numbers[running], id, redis.call('HGETALL', prefix .. id)}
    end
  end
  return still
end

local taken, receipts = {}, {}
local function fact(queue, index) return ARGV[7 + 4 * queue + index] end
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
    local id = has_room(queue, room) and redis.call('LINDEX', queue_key(queue), i)
    if not id then return end
    if wanted(id) then
      local record = redis.call('HGETALL', prefix .. id)
      if #record > 0 then
        redis.call('HSET', prefix .. id, 'status', 'started', 'worker_name', worker, 'last_heartbeat', stamp)
        if (redis.call('HGET', prefix .. id, 'started_at') or '') == '' then
          redis.call('HSET', prefix .. id, 'started_at', stamp)
        end
        redis.call('PERSIST', prefix .. id)
        redis.call('ZADD', running_key(queue), expires, id .. ':' .. execution)
        receipts[#receipts + 1] = {running_key(queue), id}
      end
      taken[#taken + 1] = {queue, id, record}
      redis.call('LREM', queue_key(queue), 1, id)
    else
      i = i + 1
    end
  end
end
local filled = {}
for queue = 1, queues do
  if redis.call('EXISTS', queue_key(queue)) == 1 then filled[#filled + 1] = queue end
end
local function take_all()
  if ARGV[5] == '1' then
    for _, queue in ipairs(filled) do
      if #taken == 0 then take(queue, 1, wants_a_worker) end
    end
    if #taken > 0 then return end
  end
  local function is_orphan(id) return not is_suspect(id) and (number(id, 'deaths') or 0) > 0 end
  for _, queue in ipairs(filled) do take(queue, tonumber(fact(queue, 2)), is_orphan) end
  local function is_other(id) return not is_suspect(id) end
  for _, queue in ipairs(filled) do take(queue, tonumber(fact(queue, 3)), is_other) end
end

take_all()
if #receipts > 0 then
  redis.call('SET', KEYS[1], cjson.encode({execution = execution, taken = receipts}), 'EX', 60)
end
local left = 0
for _, queue in ipairs(filled) do left = left + redis.call('LLEN', queue_key(queue)) end
if left == 0 then redis.call('DEL', unpack(KEYS, 2 * queues + 2)) end
return taken
"""
)


class Claims:
    """The queues of all versions of models that are served.

    A job whose workers died several times without progress is a suspect: it may be the cause. It runs alone until its
    first snapshot, so that no other job fails with it. Any other job whose worker died is an orphan: it has waited
    long enough, and is claimed even beyond the slots.

    Attributes:
        queues: all queues, the most urgent first.
        open_queues: those from which this worker claims: none if an operator holds it back.
    """

    def __init__(self, client: redis.Redis, runners: Mapping[str, Runner], worker: str) -> None:
        self._client = client
        self._worker = worker
        self._holds = Holds()
        self._closed: frozenset[str] = frozenset()
        self.serve(runners)
        self._suspect_waited = False
        self._execution = uuid.uuid4().hex  # that of the next jobs, until a claim has been answered
        self.is_unanswered = False  # whether the last claim may have taken jobs that nobody knows of

    def serve(self, runners: Mapping[str, Runner]) -> None:
        """Replaces the versions of models whose queues are used, by ref."""
        self._runners = runners
        names = (name for ref in sorted(runners) for name in queues_of(ref))
        self.queues = sorted(names, key=lambda name: name.urgency)
        self.hold_back(self._holds)

    def hold_back(self, holds: Holds) -> None:
        """Replaces what operators hold back."""
        self._holds = holds
        self.open_queues = [queue for queue in self.queues if self.may_claim(queue) and queue.ref not in self._closed]

    def may_claim(self, queue: QueueName) -> bool:
        """Whether operators let this worker claim from a queue, also from one of a model that is not loaded."""
        return self._worker not in self._holds.workers and queue.model not in self._holds.models

    def close(self, refs: Collection[str]) -> None:
        """Claims no more jobs of these versions, which are to be unloaded, instead of those that were closed before."""
        if self._closed != (closed := frozenset(refs)):
            self._closed = closed
            self.hold_back(self._holds)

    def room(self, queue: QueueName, held: Collection[Claim], *, crowded: bool = False) -> int:
        """Returns how many jobs of this queue would get a slot: the slots that no held job as urgent has.

        `CROWDED` jobs per slot are allowed if it is crowded, here and below.
        """
        if any(claim.wants_no_company for claim in held):
            return 0
        rivals = [claim.queue for claim in held if claim.queue.ref == queue.ref]
        slots = self._runners[queue.ref].slots * (CROWDED if crowded else 1)
        return max(0, slots - sum(each.urgency <= queue.urgency for each in rivals))

    def look(
        self, queues: Sequence[QueueName], held: Collection[Claim], *, crowded: bool = False
    ) -> tuple[bool, list[Claim]]:
        """Returns whether jobs wait for which there is room, and which of the held jobs were cancelled.

        It asks for no more than that, because a busy worker looks 50 times a second.
        """
        waiting = [queue_key(queue) for queue in queues if self.room(queue, held, crowded=crowded)]
        if not (waiting or held):
            return False, []
        with self._client.pipeline(transaction=False) as pipe:
            if waiting:
                pipe.exists(*waiting)
            if held:
                pipe.mget([keys.cancel(claim.record.id) for claim in held])
            answers = pipe.execute()
        flags = answers.pop() if held else []
        return any(answers), [claim for claim, flag in zip(held, flags, strict=True) if flag is not None]

    def wait(self, queues: Sequence[QueueName], also: Collection[str], *, crowded: bool, seconds: float) -> bool:
        """Blocks an idle worker until jobs may wait, in these queues or for the versions `also`; returns whether."""
        wakes = [keys.wake(ref) for ref in {queue.ref for queue in queues}.union(also)]
        # A token may be lost, or was taken while the version was not loaded.
        return self.look(queues, [], crowded=crowded)[0] or bool(self._client.blpop(wakes, timeout=seconds))

    def make_room(self, queues: Sequence[QueueName], actives: Collection[ActiveJob]) -> None:
        """Releases all running jobs if a suspect waits and no idle worker has taken it since the last call."""
        names = list(map(queue_key, queues))
        waits = bool(actives) and bool(self._client.eval(_SUSPECT_WAITS, len(names), *names, *_facts()))
        if waits and self._suspect_waited and not any(active.alone for active in actives):
            for active in actives:
                active.release = True
        self._suspect_waited = waits

    def take(self, queues: Sequence[QueueName], held: Collection[Claim], *, crowded: bool = False) -> list[Claim]:
        """Claims all jobs that would get a slot in addition to the held ones, in one round trip.

        If it fails, the next call returns what this one may have claimed. A suspect is claimed only without company.
        """
        claims: list[Claim] = []
        while not claims:  # as long as only entries are found that are not jobs
            at = round(time.time(), 6)  # as RQ's record holds it
            self.is_unanswered = True
            found = self._take(queues, held, crowded=crowded, at=at)
            for number, entry, fields in found:
                claim = self._read(entry, fields, queues[number - 1])
                if claim is not None:
                    if claim.record.started_at is None:
                        claim.record.started_at = at
                    claims.append(claim)
            self.is_unanswered, self._execution = False, uuid.uuid4().hex
            if not found:
                break
        return claims

    def _take(self, queues: Sequence[QueueName], held: Collection[Claim], *, crowded: bool, at: float) -> Any:
        names = [keys.receipt(self._worker)]
        facts: list[str | int] = []
        for queue in queues:
            names += queue_key(queue), running_key(queue)
            facts += queue.ref, queue.urgency
            facts += self.room(queue, held, crowded=True) if crowded else 0, self.room(queue, held)
        names += [keys.wake(ref) for ref in {queue.ref for queue in queues}]
        start = self._worker, stamp(at), at + EXECUTION_TTL, self._execution, len(queues)
        return self._client.eval(_TAKE, len(names), *names, *_facts(), int(not held), *start, *facts)

    def _read(self, entry: bytes, fields: Sequence[bytes], queue: QueueName) -> Claim | None:
        """Returns the claim of the job that an entry of a queue names; None after removing one that names none."""
        try:
            record = JobRecord.of(entry.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
            if record.queue != queue:
                raise JobUnreadable("the job belongs in another queue")
        except Exception as error:
            mark = entry + f":{self._execution}".encode()
            drop_unreadable(self._client, entry, error, "ZREM", running_key(queue), mark)
            return None
        return Claim(record, self._execution)


def _facts() -> tuple[int | str | float, ...]:
    """Returns the first arguments of both scripts."""
    return LOOKAHEAD, RqJob.key_for(""), LONE_RETRIES, time.time()
