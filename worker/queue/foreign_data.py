"""Data that other programs wrote into Redis: keys of the wrong type, or values that Redis cannot work with."""

import logging
import re
from collections.abc import Mapping

import redis
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus

log = logging.getLogger(__name__)

UNREADABLE_TTL = 60  # seconds that the record of an unreadable job is kept

# Redis reports a state of its own by a code (MISCONF, NOREPLICAS, BUSY …); redis-py leaves out the plain ERR.
_STATE = re.compile(r"(?:^|caused error: )(?!WRONGTYPE )[A-Z]{2,} ")

_PUT_ASIDE = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 and KEYS[2] then
  redis.pcall('HSET', KEYS[2], 'status', ARGV[2])  -- an error if another program has written there
  redis.call('EXPIRE', KEYS[2], ARGV[3])
end
"""


def is_refusal(error: Exception) -> bool:
    """Returns whether Redis refuses the command because of its data, so that a retry cannot help."""
    return type(error) is redis.ResponseError and _STATE.search(str(error)) is None


def put_aside(client: redis.Redis, waiting: str, entry: bytes, error: Exception) -> None:
    """Removes an entry from a list of jobs, because it does not name a job that can be read.

    Its record fails only if the entry was still there: else the job is another worker's by now.
    """
    log.warning("removed from a queue: not a job", extra={"entry": repr(entry[:80]), "error": ascii(error)[:200]})
    has_record = not isinstance(error, (NoSuchJobError, UnicodeDecodeError))
    names = [waiting, *([RqJob.key_for(entry.decode())] if has_record else [])]
    client.eval(_PUT_ASIDE, len(names), *names, entry, RqStatus.FAILED.value, UNREADABLE_TTL)


def set_aside(client: redis.Redis, types: Mapping[str, str]) -> None:
    """Deletes keys whose type is not that of `types`, such as `hash`. Our data was already overwritten."""
    with client.pipeline(transaction=False) as pipe:
        for key in types:
            pipe.type(key)
        found = pipe.execute()
    wrong = [key for key, kind in zip(types, found, strict=True) if kind.decode() not in (types[key], "none")]
    for key in wrong:
        log.error("another program has overwritten %s; it is deleted", key)
        client.unlink(key)
