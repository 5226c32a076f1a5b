"""Changes to jobs that wait: their acceptance, their end without a worker, and their binding to another version.

Each is one script, so a lost reply or the end of this process leaves nothing half done, and a repeated call has the
same effect. A job that waits belongs to the script or to a worker, whichever removes its id from the list.

The record of a job is what RQ writes itself, as far as RQ's tools read it: `Job.fetch` and `rq info` show it.
"""

import json
import logging
import zlib
from typing import Any

import redis
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.utils import now, utcformat

from ..contract import TASK, Job
from ..cost import NOTHING, Cost
from . import keys
from .events import ANNOUNCE, status_channel
from .index import ENTER, description, indices, listed_seconds
from .job_records import DEATHS, LISTENER, MAX_RETRIES, OWNER, RESUMED_AT, VERSIONS, WEBHOOK
from .keys import NAMES, QueueName, queue_key
from .limits import Ledger, Refusal
from .usage import COUNT
from .webhooks import CALL_IN, LOOK_SECONDS, Webhook

log = logging.getLogger(__name__)

WAKE_TOKENS = 16
UNREADABLE_TTL = 60  # seconds that the record of an unreadable job is kept

# Begins after what the limits need, if there are any. Answers with the metadata of the job that has this id already.
_KNOWN = """
local record, queue, names, backlog, wake, own, all = unpack(KEYS, #KEYS - 6)
local first = tonumber(ARGV[#ARGV])  -- of what belongs to this part
local job_id, steps, accepted_at, index_ttl, tokens = unpack(ARGV, first, first + 4)
if redis.call('EXISTS', record) == 1 then return {'known', redis.call('HGET', record, 'meta') or ''} end
"""
_ACCEPT = (
    ENTER
    + """
redis.call('HSET', record, unpack(ARGV, first + 5, #ARGV - 1))
redis.call('HSET', backlog, job_id, steps)
for _, index in ipairs({own, all}) do enter(index, job_id, accepted_at, tonumber(index_ttl)) end
redis.call('SADD', names, queue)
redis.call('RPUSH', queue, job_id)
redis.call('LPUSH', wake, 1)
redis.call('LTRIM', wake, 0, tokens)
return {'new'}
"""
)
_WATCH = CALL_IN + f"call_in(job_id, {LOOK_SECONDS})"  # of a job with a webhook
_END = (
    ANNOUNCE
    + COUNT
    + """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'status', ARGV[2], 'ended_at', ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('HDEL', KEYS[3], ARGV[1])
count(KEYS[2])
announce(KEYS[2], ARGV[1], '{}')
return 1
"""
)
_DROP = """
if redis.call(ARGV[1], KEYS[1], unpack(ARGV, 4)) == 1 and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'status', ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[3])
end
"""
_BIND = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return nil end
redis.call('HSET', KEYS[2], 'origin', ARGV[2], ARGV[3], ARGV[4])
redis.call('HDEL', KEYS[2], ARGV[7])
local deaths = tonumber(redis.call('HGET', KEYS[2], ARGV[8]) or 0)
redis.call(deaths > 0 and 'LPUSH' or 'RPUSH', KEYS[5], ARGV[1])
redis.call('SADD', KEYS[6], KEYS[5])
local progress = redis.call('GETDEL', KEYS[7])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[5])
redis.call('PUBLISH', ARGV[6], '{}')
return progress and cjson.decode(progress).image_steps or 0
"""


def accept(
    client: redis.Redis,
    job: Job,
    request_hash: str,
    *,
    result_ttl: int,
    ledger: Ledger | None = None,
    cost: Cost = NOTHING,
    listener: str | None = None,
    webhook: str | None = None,
) -> Refusal | bytes | None:
    """Accepts a job; after that it is not lost.

    Returns None if it is new, the metadata of the job that has its id already, or the limit of its owner that is
    reached.

    Args:
        result_ttl: the time that images are kept, in seconds. The record of a job is kept twice as long.
        ledger: the account of its owner's limits, from which the job takes its cost; None without limits.
        listener: the name of the front end whose request waits for the job, if it does.
        webhook: the address that is called when the job has ended, if any.
    """
    name = QueueName.of(job)
    fields = record_of(job, name, request_hash, result_ttl=result_ttl)
    if listener is not None:
        fields[LISTENER] = listener
    if job.owner is not None:
        fields[OWNER] = job.owner
    rest = _ACCEPT
    if webhook is not None:
        fields[WEBHOOK] = Webhook(url=webhook).model_dump_json(exclude_none=True)
        rest = _WATCH + _ACCEPT
    names = (RqJob.key_for(job.id), queue_key(name), NAMES, keys.backlog(job.ref), keys.wake(job.ref), *indices(job))
    facts = job.id, job.image_steps, repr(job.accepted_at), listed_seconds(job, result_ttl), WAKE_TOKENS - 1
    sent = *facts, *(part for field in fields.items() for part in field)
    if ledger is None:
        answer: Any = client.eval(_KNOWN + rest, len(names), *names, *sent, 1)
    else:
        ttl = job.timeout + 2 * result_ttl
        answer = ledger.take(_KNOWN, rest, job.id, cost, names, sent, ttl=ttl)
    if answer[0] == b"new":
        return None
    return bytes(answer[1]) if answer[0] == b"known" else Refusal.read(answer)


def record_of(job: Job, queue: QueueName, request_hash: str, *, result_ttl: int) -> dict[str, Any]:
    """Returns the fields of RQ's record of a new job."""
    moment, ttl = utcformat(now()), 2 * result_ttl
    call = f'["{TASK}", null, [], {{"job": {job.model_dump_json()}}}]'
    return {
        "created_at": moment,
        "data": zlib.compress(call.encode()),
        "retries_left": MAX_RETRIES,
        "origin": str(queue),
        "description": description(job),
        "enqueued_at": moment,
        "timeout": job.timeout,
        "result_ttl": ttl,
        "failure_ttl": ttl,
        "status": RqStatus.QUEUED.value,
        "meta": json.dumps({"request_hash": request_hash}),
    }


def wake(client: redis.Redis, ref: str) -> None:
    """Informs an idle worker that there may be work."""
    with client.pipeline(transaction=False) as pipe:
        pipe.lpush(keys.wake(ref), 1)
        pipe.ltrim(keys.wake(ref), 0, WAKE_TOKENS - 1)
        pipe.execute()


def end_queued(client: Any, job_id: str, queue: QueueName, state: RqStatus, *, ttl: int) -> bool:
    """Ends a job that waits in this queue; returns False if it does not. Its record is kept for `ttl` seconds."""
    names = queue_key(queue), RqJob.key_for(job_id), keys.backlog(queue.ref)
    facts = job_id, state.value, utcformat(now()), ttl
    return bool(client.eval(_END, len(names), *names, *facts))


def drop_unreadable(client: Any, job_id: bytes, error: Exception, remove: str, key: str, *entry: bytes | int) -> None:
    """Removes what does not name a job that can be read, by a command such as LREM, from the jobs below a key.

    Its record fails only if the entry was still there: else the job is another worker's by now.
    """
    log.warning("removed from a queue: not a job", extra={"entry": repr(job_id[:80]), "error": ascii(error)[:200]})
    record = RqJob.key_for("").encode() + job_id
    client.eval(_DROP, 2, key, record, remove, RqStatus.FAILED.value, UNREADABLE_TTL, *entry)


def bind_queued(client: Any, job: Job, queue: QueueName) -> int | None:
    """Moves a job that waits in this queue to that of its `versions`; returns None if it does not wait there.

    It goes to the end there, and to the front if a worker has died running it: it has waited long enough. What earlier
    workers have done of it is void, so that all its image-steps are to do. Returns how many had been done.
    """
    target = QueueName(job.ref, queue.contract, queue.urgency)
    names = (
        queue_key(queue),
        RqJob.key_for(job.id),
        keys.backlog(queue.ref),
        keys.backlog(job.ref),
        queue_key(target),
        NAMES,
        keys.progress(job.id),
    )
    bound = job.id, str(target), VERSIONS, json.dumps(job.versions), job.image_steps, status_channel(job.id)
    void: int | None = client.eval(_BIND, len(names), *names, *bound, RESUMED_AT, DEATHS)
    return void
