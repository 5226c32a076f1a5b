"""When a job will be done: one that waits in a queue, and one that could be sent now."""

from collections.abc import Sequence
from dataclasses import dataclass

import redis

from ..contract import Job
from .backlog import ask_outlook, read_outlook
from .workers import ask_reports, lone_job_seconds, read_reports, total_rate


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
