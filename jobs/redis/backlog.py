"""The unfinished work of a model, and when a job will be done.

The work is added up inside Redis, so that only sums are sent instead of thousands of jobs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import redis

from difuso.model.folders.files import model_of

from ..contract import Job
from . import keys
from .keys import QueueName, queue_key
from .pools import sleeping, start_seconds
from .workers import WorkerReport, ask_reports, load_seconds, lone_job_seconds, read_reports, total_rate

MAX_QUEUED = 100_000  # ids of one queue that are read

# Returns the image-steps of all jobs but those that wait in the queues of KEYS, and the number of all jobs.
_TOTAL = """
local later = {}
for i = 2, #KEYS do
  for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, ARGV[1])) do later[id] = true end
end
local total, jobs, backlog = 0, 0, redis.call('HGETALL', KEYS[1])
for i = 1, #backlog, 2 do
  total, jobs = total + (later[backlog[i]] and 0 or backlog[i + 1]), jobs + 1
end
return {string.format('%.0f', total), jobs}
"""
# Returns the number of jobs that will be claimed before a job, its own image-steps, those of running jobs, of each at
# most as many as its own, and those of the jobs that will be claimed before it.
_OUTLOOK = """
local own, todo, backlog = ARGV[1], {}, redis.call('HGETALL', KEYS[1])
for i = 1, #backlog, 2 do
  todo[backlog[i]] = tonumber(backlog[i + 1])
end
local mine = todo[own] or tonumber(ARGV[2])

local waiting, ahead, earlier = {}, 0, 0
for i = 2, #KEYS do
  for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, ARGV[3])) do
    if i - 1 <= tonumber(ARGV[5]) and not waiting[own] and id ~= own then
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


@dataclass(frozen=True)
class Backlog:
    """The unfinished work of one version of a model."""

    image_steps: int  # the image-steps left to do of the queued and running jobs, but not of those that wait behind
    jobs: int  # the number of all these jobs
    rate: float | None  # the image-steps per second of all live workers; None if unknown
    workers: Sequence[WorkerReport] = ()  # the reports of the live workers
    asleep: bool = False  # whether the next job starts workers of the model

    def after(self, other: Self) -> Self:
        """Returns this work together with that of another version, which the same workers will do."""
        return replace(self, image_steps=self.image_steps + other.image_steps, jobs=self.jobs + other.jobs)


def read_backlog(client: redis.Redis, ref: str, behind: Sequence[QueueName], pools: Collection[str] = ()) -> Backlog:
    """Returns the unfinished work of a version of a model, and what its workers report, in one round trip.

    `behind` are the queues that workers claim from last, whose work delays no job of the others. `pools` are the models
    with workers of their own.
    """
    with client.pipeline(transaction=False) as pipe:
        pipe.eval(_TOTAL, 1 + len(behind), keys.backlog(ref), *map(queue_key, behind), MAX_QUEUED - 1)
        ask_reports(pipe)
        (image_steps, jobs), answer = pipe.execute()
    workers = read_reports(answer)
    asleep = model_of(ref) in sleeping(pools, workers)
    return Backlog(int(image_steps), jobs, total_rate(ref, workers), workers, asleep)


@dataclass(frozen=True)
class Forecast:
    """The way of a job that has not begun."""

    position: int  # the number of jobs that will be claimed before it
    # the time that it takes on a worker which does nothing else; None if the speed is unknown
    lone_seconds: float | None = None
    eta_seconds: float | None = None  # the time until it is done; None if the speed is unknown
    load_seconds: float | None = None  # the part of it until its model is loaded; None if it is, or if that is unknown
    asleep: bool = False  # whether it starts workers of its model; `load_seconds` are then those of the last start


def read_forecast(
    client: redis.Redis, job: Job, queues: Sequence[QueueName], pools: Collection[str] = (), *, is_queued: bool
) -> Forecast:
    """Returns the forecast of a job in one round trip, two if its model sleeps, and writes nothing.

    Jobs that will be claimed earlier count in full. Running jobs share the batch equally, so each of them counts up to
    the image-steps of this job. The time is at least that of the job alone on a worker.

    Args:
        queues: the queues of its version by urgency. Workers claim from those before its own first.
        pools: the models with workers of their own.
        is_queued: whether the job was submitted; one that was not comes after all jobs of its own queue.
    """
    first = sum(name.urgency <= job.urgency for name in queues)
    facts = (job.id, job.image_steps, MAX_QUEUED - 1, "queued" if is_queued else "new", first)
    with client.pipeline(transaction=False) as pipe:
        pipe.eval(_OUTLOOK, 1 + len(queues), keys.backlog(job.ref), *map(queue_key, queues), *facts)
        ask_reports(pipe)
        (ahead, *image_steps), answer = pipe.execute()
    mine, shared, earlier = map(int, image_steps)
    workers = read_reports(answer)
    rate = total_rate(job.ref, workers)
    alone = lone_job_seconds(job.ref, workers, image_steps=mine, images=job.params.n)
    asleep = job.model in sleeping(pools, workers)
    loading = start_seconds(client, [job.model])[job.model] if asleep else load_seconds(job.ref, workers)
    if rate is None or alone is None:
        return Forecast(ahead, load_seconds=loading, asleep=asleep)
    return Forecast(ahead, alone, (loading or 0.0) + max((mine + shared + earlier) / rate, alone), loading)
