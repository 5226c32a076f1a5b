"""The jobs of each owner, and of all owners, newest first: sorted sets of ids by the time of acceptance.

An entry is written together with its job. That of a job that has been forgotten is removed when it is met: by a reader,
or by the next job in the same set.

The index of an owner who asks for nothing any more expires like its jobs. If one of them has waited longer than that
for a worker, it is entered again when it starts.
"""

import re
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import redis
from rq.job import Job as RqJob

from ..contract import JOB_ID, Job, JobState
from ..errors import JobNotFound, JobUnreadable, RequestRefused
from . import keys
from .status import STATES, JobStatus, ask_statuses, read_status

EVERYBODY = "*"  # stands for all owners; no owner has this name
EXAMINED = 1000  # entries that one page examines, so that a filter that matches little keeps nobody waiting
PAGE_BYTES = 1 << 20  # of one page's jobs as JSON, after which it ends; they may take ten times as much memory
FORGOTTEN = 100  # entries without a job that a page without a filter passes over
_CURSOR = re.compile(rf"(\d{{1,12}}(?:\.\d{{1,20}})?)_({JOB_ID.strip('^$')})")

_LOOK = f"""
local records = '{RqJob.key_for("")}'
local function keep(index, seconds)
  if redis.call('TTL', index) < seconds then redis.call('EXPIRE', index, seconds) end
end
local function is_there(id)
  return redis.call('EXISTS', records .. id) == 1
end
"""
# Each job also removes up to three entries without a job, so that these never become the larger part.
ENTER = (
    _LOOK
    + """
local function enter(index, id, at, ttl)
  redis.call('ZADD', index, at, id)
  for _, some in ipairs(redis.call('ZRANDMEMBER', index, 3)) do
    if not is_there(some) then redis.call('ZREM', index, some) end
  end
  keep(index, ttl)
end
"""
)
_ENTER = ENTER + "for _, index in ipairs(KEYS) do enter(index, ARGV[1], ARGV[2], tonumber(ARGV[3])) end"
_FIND = (
    _LOOK
    + """
local index, most, examined = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local ttl, bytes, last, last_at, states, kind, model, tag, without = unpack(ARGV, 3)

local function field(id, name) return redis.call('HGET', records .. id, name) or '' end
local function matches(id)
  if states ~= '' and not string.find(states, ' ' .. field(id, 'status') .. ' ', 1, true) then return false end
  if kind .. model .. tag .. without == '' then return true end
  local words = {string.match(field(id, 'description'), '^(%S+) (%S+) ?(.*)$')}
  for i, wanted in ipairs({kind, model, tag}) do
    if wanted ~= '' and wanted ~= words[i] then return false end
  end
  return without == '' or without ~= words[3]
end

local start = 0
if last ~= '' then
  if tonumber(redis.call('ZSCORE', index, last) or '') == tonumber(last_at) then
    start = redis.call('ZREVRANK', index, last) + 1
  else
    start = redis.call('ZCOUNT', index, '(' .. last_at, '+inf')
  end
end
local entries = redis.call('ZREVRANGE', index, start, start + examined, 'WITHSCORES')
local found, gone, i, size = {}, {}, 1, 0
while i <= #entries and i <= 2 * examined and #found < 2 * most and size < tonumber(bytes) do
  if not is_there(entries[i]) then
    gone[#gone + 1] = entries[i]
  elseif matches(entries[i]) then
    found[#found + 1] = entries[i]
    found[#found + 1] = entries[i + 1]
    size = size + redis.call('HSTRLEN', records .. entries[i], 'data')
  end
  i = i + 2
end
local more = i <= #entries and {entries[i - 2], entries[i - 1]} or {}
if #gone > 0 then redis.call('ZREM', index, unpack(gone)) end
if #found > 0 then keep(index, tonumber(ttl)) end
return {found, more}
"""
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The jobs that a list shows; None means all."""

    state: JobState | None = None
    kind: str | None = None
    model: str | None = None
    tag: str | None = None
    without_tag: str | None = None  # the tag of jobs that it does not show


@dataclass(frozen=True)
class Cursor:
    """The place after a job in a list, which stays the same while newer jobs arrive and others are forgotten.

    The job was accepted `at` so many seconds since the epoch.
    """

    at: float
    job_id: str

    def encode(self) -> str:
        return f"{self.at!r}_{self.job_id}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """Reads a cursor that `encode` wrote; raises RequestRefused if it is not a cursor."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise RequestRefused("cursor", "Input should be the `next` of an earlier answer")
        return cls(float(found[1]), found[2])


@dataclass(frozen=True)
class Page:
    """A part of a list of jobs."""

    jobs: list[JobStatus]  # the jobs, newest first; the position and the ETA of queued jobs are missing
    following: Cursor | None  # the place where the next page begins; None after the last job


def description(job: Job) -> str:
    """Returns the description of a job in RQ's record, by which lists are filtered: its kind, its model and its tag."""
    return " ".join(word for word in (job.kind, job.model, job.tag) if word is not None)


def indices(job: Job) -> tuple[str, str]:
    """Returns the keys of the sets that a job is in: its owner's, and that of all."""
    return keys.index(job.owner), keys.index(EVERYBODY)


def listed_seconds(job: Job, result_ttl: int) -> int:
    """Returns how long a set is kept from the time when a job is entered, in seconds: as long as that job."""
    return job.timeout + 2 * result_ttl


def enter_again(client: redis.Redis, job: Job, *, result_ttl: int) -> None:
    """Enters a job that has waited for so long that its sets may have been forgotten."""
    ttl = listed_seconds(job, result_ttl)
    if time.time() - job.accepted_at > ttl:
        client.eval(_ENTER, 2, *indices(job), job.id, repr(job.accepted_at), ttl)


def read_page(
    client: redis.Redis, owner: str | None, wanted: Wanted, *, most: int, after: Cursor | None, result_ttl: int
) -> Page:
    """Returns a part of the list of an owner's jobs, in two round trips.

    It may have fewer jobs than `most` although more follow, because at most EXAMINED entries are examined, and
    none after PAGE_BYTES of jobs.

    The owner may be EVERYBODY, or None on a server without API keys. `after` is the place where the page begins.
    """
    found, following = _find(client, owner, wanted, most=most, after=after, ttl=2 * result_ttl)
    answers = ask_statuses(client, [place.job_id for place in found]) if found else []
    jobs: list[JobStatus] = []
    size, last = 0, None
    for place, answer in zip(found, answers, strict=True):
        if size >= PAGE_BYTES:  # which the script cannot know: records are compressed
            return Page(jobs, last)
        with suppress(JobNotFound, JobUnreadable):  # forgotten a moment ago, or damaged
            status = read_status(*answer, result_ttl=result_ttl)
            if owner in (EVERYBODY, status.job.owner) and wanted.state in (None, status.state):
                jobs.append(status)
                size += len(zlib.decompress(answer[0][0] or b""))
        last = place
    return Page(jobs, following)


def _find(
    client: redis.Redis, owner: str | None, wanted: Wanted, *, most: int, after: Cursor | None, ttl: int
) -> tuple[list[Cursor], Cursor | None]:
    """Returns the places of the jobs of a page, and that where the next page begins; keeps the index for `ttl` s."""
    names = [name for name, state in STATES.items() if state is wanted.state]
    states = f" {' '.join(names)} " if names else ""
    place = ("", "") if after is None else (after.job_id, repr(after.at))
    asked = (states, wanted.kind or "", wanted.model or "", wanted.tag or "", wanted.without_tag or "")
    examined = EXAMINED if any(asked) else most + FORGOTTEN
    facts = (most, examined, ttl, PAGE_BYTES, *place, *asked)
    found, last = client.eval(_FIND, 1, keys.index(owner), *facts)
    places = [Cursor(float(at), job_id.decode()) for job_id, at in zip(found[::2], found[1::2], strict=True)]
    return places, Cursor(float(last[1]), last[0].decode()) if last else None
