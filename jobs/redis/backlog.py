"""The unfinished work of a model, added up inside Redis, so that only sums are sent instead of thousands of jobs.

Values in a backlog that are not whole numbers, written by somebody else, are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from ..contract import Job
from . import keys
from .workers import ask_reports, lone_job_seconds, read_reports, total_rate

MAX_QUEUED = 100_000  # ids of one queue that are read

_STEPS = """
local function steps(value)
  return #value <= 15 and string.match(value, '^%d+$') and tonumber(value)
end
"""
_TOTAL = (
    _STEPS
    + """
local total, jobs = 0, 0
for _, value in ipairs(redis.call('HVALS', KEYS[1])) do
  if steps(value) then total, jobs = total + steps(value), jobs + 1 end
end
return {string.format('%.0f', total), jobs}
"""
)
_OUTLOOK = (
    _STEPS
    + """
local own, todo, backlog = ARGV[1], {}, redis.call('HGETALL', KEYS[1])
for i = 1, #backlog, 2 do
  todo[backlog[i]] = steps(backlog[i + 1]) or nil
end
local mine = todo[own] or tonumber(ARGV[2])

local waiting, ahead, earlier = {}, 0, 0
for i = 2, #KEYS do
  for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, ARGV[3])) do
    if not waiting[own] and id ~= own then
      ahead = ahead + 1
      earlier = earlier + (not waiting[id] and todo[id] or 0)
    end
    waiting[id] = true
  end
end
if ARGV[4] == 'queued' and not waiting[own] then  -- a worker has just claimed it
  ahead, earlier = 0, 0
end

local shared = 0
for id, left in pairs(todo) do
  if not waiting[id] and id ~= own then shared = shared + math.min(left, mine) end
end
return {ahead, string.format('%.0f', mine), string.format('%.0f', shared), string.format('%.0f', earlier)}
"""
)


def ask_total(pipe: Any, model: str) -> None:
    """Adds to a pipeline the command whose answer `read_total` reads."""
    pipe.eval(_TOTAL, 1, keys.backlog(model))


def read_total(answer: Sequence[Any]) -> tuple[int, int]:
    """Returns the image-steps left to do for a model, and the number of its unfinished jobs."""
    return int(answer[0]), answer[1]


def ask_outlook(pipe: Any, job: Job, queues: Sequence[str], *, is_queued: bool) -> None:
    """Adds to a pipeline the command whose answer `read_outlook` reads.

    Args:
        queues: the keys of the queues that workers claim from before the job, its own queue last.
        is_queued: whether the job was submitted; one that was not comes after all jobs of these queues.
    """
    facts = (job.id, job.image_steps, MAX_QUEUED - 1, "queued" if is_queued else "new")
    pipe.eval(_OUTLOOK, 1 + len(queues), keys.backlog(job.model), *queues, *facts)


def read_outlook(answer: Sequence[Any]) -> tuple[int, int, int, int]:
    """Returns the work until a job is done that has not begun.

    Returns:
        The number of jobs that will be claimed before it; its own image-steps; the image-steps of running jobs, each
        job's at most as many as its own; and the image-steps of the jobs that will be claimed before it.
    """
    ahead, mine, shared, earlier = answer
    return ahead, int(mine), int(shared), int(earlier)


@dataclass(frozen=True)
class Forecast:
    """The way of a job that has not begun.

    Attributes:
        position: the number of jobs that will be claimed before it.
        lone_seconds: the time that it takes on a worker which does nothing else; None if the speed is unknown.
        eta_seconds: the time until it is done; None if the speed is unknown.
    """

    position: int
    lone_seconds: float | None = None
    eta_seconds: float | None = None


def read_forecast(client: redis.Redis, job: Job, queues: Sequence[str], *, is_queued: bool) -> Forecast:
    """Returns the forecast of a job in one round trip, and writes nothing.

    Jobs that will be claimed earlier count in full. Running jobs share the batch equally, so each of them counts up to
    the image-steps of this job. The time is at least that of the job alone on a worker.

    Args:
        queues: the keys of the queues that workers claim from before the job, its own queue last.
        is_queued: whether the job was submitted; one that was not comes after all jobs of these queues.
    """
    with client.pipeline(transaction=False) as pipe:
        ask_outlook(pipe, job, queues, is_queued=is_queued)
        ask_reports(pipe)
        outlook, answer = pipe.execute()
    ahead, mine, shared, earlier = read_outlook(outlook)
    workers = read_reports(answer)
    rate = total_rate(job.model, workers)
    alone = lone_job_seconds(job.model, workers, image_steps=mine, images=job.task.abreast(job.params))
    if rate is None or alone is None:
        return Forecast(ahead)
    return Forecast(ahead, alone, max((mine + shared + earlier) / rate, alone))
