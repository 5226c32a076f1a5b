"""Starts popped jobs. One whose worker was frozen after the pop was given back, and may have ended since."""

from typing import Any

from rq import Queue
from rq.executions import Execution

from jobs.redis.rq_job import DataJob

from .recovery import EXECUTION_TTL

# Carries out commands, each of which follows its length, if the worker ARGV[2] may start the job ARGV[1]: if the job is
# still popped, or if this worker has started it by a try whose reply was lost. The entry is removed last, so that a
# command that Redis refuses leaves a job that can be started again.
_START = """
if not redis.call('LPOS', KEYS[1], ARGV[1]) then
  local record = redis.call('HMGET', KEYS[2], 'status', 'worker_name')
  if record[1] ~= 'started' or record[2] ~= ARGV[2] then return 0 end
end
local i = 3
while i <= #ARGV do
  redis.call(unpack(ARGV, i + 1, i + ARGV[i]))
  i = i + 1 + ARGV[i]
end
redis.call('LREM', KEYS[1], 1, ARGV[1])
return 1
"""


def add_start(pipe: Any, job: DataJob, queue: Queue, worker_name: str) -> Execution:
    """Adds to a pipeline all that RQ writes when a job starts. It may be sent repeatedly, and writes only our jobs.

    The answer in the pipeline is 1 if the job is ours, else 0.
    """
    writes: Any = job.connection.pipeline()  # collects what RQ writes, and is never executed
    execution = Execution.create(job, EXECUTION_TTL, pipeline=writes, worker_name=worker_name)
    job.prepare_for_execution(worker_name, pipeline=writes)
    writes.persist(job.key)
    commands = [part for command, _ in writes.command_stack for part in (len(command), *command)]
    pipe.eval(_START, 2, queue.intermediate_queue.key, job.key, job.id, worker_name, *commands)
    return execution
