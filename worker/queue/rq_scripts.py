"""What a worker writes into RQ's records: the heartbeat, end, return and recovery of jobs, each as one script.

`claims` has the script by which jobs start.

RQ's own worker runs one job at a time, in several round trips each. So difuso writes the layout of RQ 3 itself, as far
as RQ's tools read it:

| key | content | read by |
| --- | --- | --- |
| rq:queue:NAME | list of waiting jobs | `rq info`, `Queue` |
| rq:wip:NAME | JOB:EXECUTION, by the time when its heartbeat expires | `rq info`, `StartedJobRegistry` |
| rq:finished:NAME, rq:failed:NAME | jobs, by the time when they are forgotten | `rq info`, the registries |
| rq:job:JOB | status, worker_name, last_heartbeat, started_at, ended_at, enqueued_at, retries_left | `Job.fetch` |
| rq:results:JOB | stream: type, worker_name, execution_id, and return_value or exc_string | `Job.latest_result` |

RQ's keys of executions and of workers, and its lists of jobs that were popped and not started, are not written: its
tools do without.

**The fence** is the entry in rq:wip. While it is there, the job belongs to that execution, which is one try of one
worker. Whoever recovers the job removes it. Every script looks at it first, and writes nothing for a job without it. So
a script may be sent again, as after a lost reply: a repeated call changes nothing and has the same answer. Each script
answers for each of its jobs.
"""

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.results import Result
from rq.utils import utcformat

from difuso.jobs.contract import JobState
from difuso.jobs.redis import keys
from difuso.jobs.redis.events import ANNOUNCE
from difuso.jobs.redis.job_records import (
    DEATHS,
    ENDED_BY,
    MAX_DEATHS,
    MAX_RETRIES,
    PUT_OFF_AT,
    PUT_OFFS,
    RESUMED_AT,
    VERSIONS,
)
from difuso.jobs.redis.keys import QueueName, failed_key, finished_key, queue_key, running_key
from difuso.jobs.redis.usage import COUNT, Used

from ..engine.held_jobs import Claim, RunningJob

EXECUTION_TTL = 9  # seconds that a heartbeat is valid: two may be missed before another worker gets the job

RQ_STATES = {
    JobState.SUCCEEDED: RqStatus.FINISHED,
    JobState.FAILED: RqStatus.FAILED,
    JobState.CANCELLED: RqStatus.STOPPED,
}


class Answer(IntEnum):
    """What a script says about a job."""

    LOST = 0  # another worker has it, or it has ended
    OURS = 1
    GONE = 2  # Redis has lost the record, so no other worker has the job either


# What follows from the fence for a job that is not ours.
_WHOSE = f"""
local function whose(record) return redis.call('EXISTS', record) == 1 and {Answer.LOST:d} or {Answer.GONE:d} end
"""
_BEAT = (
    _WHOSE
    + f"""
local answers = {{}}
for i = 1, #KEYS, 2 do
  local running, entry = KEYS[i + 1], ARGV[(i + 3) / 2]
  if redis.call('ZSCORE', running, entry) then
    redis.call('ZADD', running, 'XX', ARGV[1], entry)
    answers[#answers + 1] = {Answer.OURS:d}
  else
    answers[#answers + 1] = whose(KEYS[i])
  end
end
return answers
"""
)
_END = (
    _WHOSE
    + ANNOUNCE
    + COUNT
    + f"""
local answers = {{}}
for i = 1, #ARGV / 2 do
  local record, running, registry, results, backlog, progress, timesteps = unpack(KEYS, 7 * i - 6, 7 * i)
  local job, manifest = cjson.decode(ARGV[2 * i - 1]), ARGV[2 * i]
  if redis.call('ZREM', running, job.entry) == 1 then
    redis.call('HSET', record, 'status', job.status, 'ended_at', job.ended_at, '{ENDED_BY}', job.entry)
    redis.call('EXPIRE', record, job.ttl)
    redis.call('ZADD', registry, job.forgotten_at, job.id)
    redis.call('XADD', results, '*', unpack(job.result))
    redis.call('EXPIRE', results, job.ttl)
    redis.call('HDEL', backlog, job.id)
    if job.versions then redis.call('HSET', record, '{VERSIONS}', job.versions) end
    if job.progress then redis.call('SET', progress, job.progress, 'EX', job.ttl) end
    if job.timesteps then redis.call('SET', timesteps, job.timesteps, 'EX', job.ttl) end
    count(record, job.used)
    announce(record, job.id, job.message, manifest ~= '' and job.message .. '\\n' .. manifest)
    answers[i] = {Answer.OURS:d}
  elseif redis.call('HGET', record, '{ENDED_BY}') == job.entry then
    answers[i] = {Answer.OURS:d}
  else
    answers[i] = whose(record)
  end
end
return answers
"""
)
_HAND_BACK = (
    _WHOSE
    + f"""
local record, running, queue = unpack(KEYS)
local entry, id, enqueued_at, now, image_steps = unpack(ARGV)
if redis.call('ZREM', running, entry) == 0 then return whose(record) end
redis.call('HSET', record, 'status', 'queued')
if image_steps ~= '' then
  redis.call('HSET', record, '{RESUMED_AT}', image_steps, 'retries_left', {MAX_RETRIES})
end
if enqueued_at ~= '' then
  redis.call('HSET', record, 'enqueued_at', enqueued_at)
  redis.call('LPUSH', queue, id)
else
  redis.call('HSETNX', record, '{PUT_OFF_AT}', now)
  redis.call('HINCRBY', record, '{PUT_OFFS}', 1)
  redis.call('RPUSH', queue, id)
end
return {Answer.OURS:d}
"""
)
# Answers what became of the job, and the record of one that is given up.
_RECOVER = (
    ANNOUNCE
    + COUNT
    + f"""
local record, running, queue, failed, results = unpack(KEYS)
local entry, beat, id, name, now, seconds = unpack(ARGV)
if tonumber(redis.call('ZSCORE', running, entry) or '') ~= tonumber(beat) then return {{'alive'}} end
redis.call('ZREM', running, entry)
local facts = redis.call('HMGET', record, 'status', 'origin', 'retries_left', '{DEATHS}', 'failure_ttl')
if facts[1] ~= 'started' or facts[2] ~= name then return {{'no job'}} end
local tries, deaths = tonumber(facts[3]) or 0, tonumber(facts[4]) or 0
if tries > 0 and deaths < {MAX_DEATHS} then
  redis.call('HSET', record, 'status', 'queued', 'retries_left', tries - 1, '{DEATHS}', deaths + 1, 'enqueued_at', now)
  redis.call('LPUSH', queue, id)
  return {{'queued'}}
end
local ttl = tonumber(facts[5])
redis.call('HSET', record, 'status', 'failed', 'ended_at', now)
redis.call('EXPIRE', record, ttl)
redis.call('ZADD', failed, seconds + ttl, id)
redis.call('XADD', results, '*', unpack(ARGV, 7))
redis.call('EXPIRE', results, ttl)
count(record)
announce(record, id, '{{}}')
return {{'failed', redis.call('HGETALL', record)}}
"""
)


@dataclass(frozen=True)
class End:
    """The end of a job.

    Attributes:
        result: the return value of a job that succeeded, and the error of another.
        progress: the last `Progress` as JSON; None leaves that of before, as with the timesteps.
        timesteps: those of the job as JSON.
        message: what the clients that wait hear.
        manifest: what the request that waits hears besides, if the result is small.
        versions: those of the models that drew the result; none leave those of before.
        used: what counts for its owner.
    """

    claim: Claim
    state: JobState
    result: Mapping[str, int] | str
    progress: str | None = None
    timesteps: str | None = None
    message: str = "{}"
    manifest: bytes | None = None
    versions: tuple[str, ...] = ()
    used: Used = field(default_factory=Used)


def beat(client: Any, claims: Sequence[Claim]) -> list[Answer]:
    """Sends the heartbeats of jobs."""
    names = [key for each in claims for key in (RqJob.key_for(each.record.id), running_key(each.queue))]
    answers = client.eval(_BEAT, len(names), *names, time.time() + EXECUTION_TTL, *(claim.entry for claim in claims))
    return list(map(Answer, answers))


def end(client: Any, ends: Sequence[End], worker: str, *, at: float) -> list[Answer]:
    """Ends jobs at a time, in seconds since the epoch, and wakes the clients that wait for them."""
    names, facts, ended_at = list[str](), list[str | bytes](), stamp(at)
    for each in ends:
        claim, registry = each.claim, finished_key if each.state is JobState.SUCCEEDED else failed_key
        job_id, ttl = claim.record.id, claim.record.ttl
        names += RqJob.key_for(job_id), running_key(claim.queue), registry(claim.queue)
        names += _results_key(job_id), keys.backlog(claim.queue.ref), keys.progress(job_id), keys.timesteps(job_id)
        fact = {
            "id": job_id,
            "entry": claim.entry,
            "status": RQ_STATES[each.state],
            "ended_at": ended_at,
            "ttl": ttl,
            "forgotten_at": at + ttl,
            "result": _result(each.result, worker, claim.execution),
            "message": each.message,
            "used": asdict(each.used),
        }
        versions = json.dumps(each.versions) if each.versions else None
        known = {"progress": each.progress, "timesteps": each.timesteps, "versions": versions}
        facts.append(json.dumps(fact | {name: text for name, text in known.items() if text is not None}))
        facts.append(each.manifest or b"")
    return list(map(Answer, client.eval(_END, len(names), *names, *facts)))


def hand_back(client: Any, claim: Claim, *, at_front: bool) -> Answer:
    """Puts a running job back into its queue, without using up one of its tries.

    At the end of the queue it waits for what it needs. Its record says since when, and how often it was tried. Work
    that was done gives it its tries back, and counts for its owner however it ends.
    """
    names = RqJob.key_for(claim.record.id), running_key(claim.queue), queue_key(claim.queue)
    now = time.time()
    done = claim.active.image_steps if isinstance(claim, RunningJob) else 0
    news = done if done > claim.record.resumed_at else ""
    facts = claim.entry, claim.record.id, stamp(now) if at_front else "", now, news
    return Answer(client.eval(_HAND_BACK, len(names), *names, *facts))


def recover(
    client: Any, queue: QueueName, job_id: str, execution: str, *, last_beat: float
) -> tuple[str, Mapping[bytes, bytes]]:
    """Returns the job of a dead worker to the front of its queue, or fails one that has no try left.

    Answers `alive` if there was a heartbeat since `last_beat`, `no job` if nothing is to recover, `queued`, or `failed`
    with the record of the job.
    """
    names = RqJob.key_for(job_id), running_key(queue), queue_key(queue), failed_key(queue), _results_key(job_id)
    now = time.time()
    facts = f"{job_id}:{execution}", repr(last_beat), job_id, str(queue), stamp(now), now
    what, *rest = client.eval(_RECOVER, len(names), *names, *facts, *_result("its workers died", "", execution))
    record = rest[0] if rest else []
    return what.decode(), dict(zip(record[::2], record[1::2], strict=True))


def stamp(seconds: float) -> str:
    """Returns a time in seconds since the epoch as RQ writes it."""
    return utcformat(datetime.fromtimestamp(seconds, UTC))


def _results_key(job_id: str) -> str:
    key: str = Result.get_key(job_id)  # type: ignore[no-untyped-call]
    return key


def _result(result: Mapping[str, int] | str, worker: str, execution: str) -> list[str | int]:
    """Returns the fields of an entry in RQ's stream of results, for its serializer of JSON."""
    if isinstance(result, str):
        kind, name, content = Result.Type.FAILED, "exc_string", zlib.compress(result.encode())
    else:
        kind, name, content = Result.Type.SUCCESSFUL, "return_value", json.dumps(result).encode()
    facts = ("type", kind.value, "worker_name", worker, "execution_id", execution)
    return [*facts, name, base64.b64encode(content).decode()]
