"""Changes to jobs that wait: their end without a worker, and their binding to another version of their model.

Each is one script. The job belongs to it or to a worker, whichever removes the id from the list. So a lost reply or the
end of this process leaves nothing half done, and a repeated call has the same effect.
"""

import json
import logging
from typing import Any

from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.utils import now, utcformat

from ..contract import Job
from . import keys
from .events import ANNOUNCE, status_channel
from .job_records import RESUMED_AT, VERSIONS
from .keys import NAMES, QueueName, queue_key

log = logging.getLogger(__name__)

UNREADABLE_TTL = 60  # seconds that the record of an unreadable job is kept

_END = (
    ANNOUNCE
    + """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'status', ARGV[2], 'ended_at', ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('HDEL', KEYS[3], ARGV[1])
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
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'origin', ARGV[2], ARGV[3], ARGV[4])
redis.call('HDEL', KEYS[2], ARGV[7])
redis.call('RPUSH', KEYS[5], ARGV[1])
redis.call('SADD', KEYS[6], KEYS[5])
redis.call('DEL', KEYS[7])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[5])
redis.call('PUBLISH', ARGV[6], '{}')
return 1
"""


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


def bind_queued(client: Any, job: Job, queue: QueueName) -> bool:
    """Moves a job that waits in this queue to that of its `versions`; returns False if it does not wait there.

    What earlier workers have done of it is void, so that all its image-steps are to do.
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
    facts = job.id, str(target), VERSIONS, json.dumps(job.versions), job.image_steps, status_channel(job.id), RESUMED_AT
    return bool(client.eval(_BIND, len(names), *names, *facts))
