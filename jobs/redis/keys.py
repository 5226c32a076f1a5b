"""The names of the queues and of all keys that front ends and workers have in Redis.

A `ref` is the short name of one version of a model: faces64@1a2b3c4d5e6f. RQ keeps the names of queues in a set, to
which it adds each that gets a job.
"""

import re
from typing import Any, NamedTuple

import redis
from rq import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry

from difuso.model.folders.files import model_of

from .. import understanding
from ..contract import URGENCIES, Job

WORKERS = "difuso:workers"  # hash: worker name -> WorkerReport
STARTS = "difuso:starts"  # hash: model -> seconds that the last start of its workers took
HOLDS = "difuso:holds"  # set: `model NAME` or `worker NAME`, which an operator holds back
WEBHOOKS = "difuso:webhooks"  # sorted set: job id -> time, by the clock of Redis, to look at its webhook
PROBE = "difuso:probe"  # string: written to see whether Redis takes writes, and gone a second later

_REF = r"[a-z0-9][a-z0-9._-]{0,63}@[0-9a-f]{0,12}"
_QUEUE = re.compile(rf"difuso\.(?P<ref>{_REF})\.(?P<contract>\d{{1,6}})\.(?P<urgency>[0-7])")


class QueueName(NamedTuple):
    """An RQ queue: its jobs are of one version of a model, need one contract and are equally urgent.

    So a worker never meets a job that it cannot run. It looks at the queues in the order of urgency.
    """

    ref: str
    contract: int
    urgency: int

    @property
    def model(self) -> str:
        return model_of(self.ref)

    def __str__(self) -> str:
        return f"difuso.{self.ref}.{self.contract}.{self.urgency}"

    @classmethod
    def of(cls, job: Job) -> "QueueName":
        """Returns the queue in which a job waits."""
        return cls(job.ref, job.contract, job.urgency)

    @classmethod
    def read(cls, name: str) -> "QueueName | None":
        """Returns the parts of a name; None if it is of no queue of difuso."""
        found = _QUEUE.fullmatch(name)
        return found and cls(found["ref"], int(found["contract"]), int(found["urgency"]))


def progress(job_id: str) -> str:
    """String: the `Progress` of a job (JSON), written by its worker only."""
    return f"difuso:progress:{job_id}"


def timesteps(job_id: str) -> str:
    """String: the timesteps of a job's network calls (JSON list), written once, because they may be long."""
    return f"difuso:timesteps:{job_id}"


def cancel(job_id: str) -> str:
    """String: exists if the job is to be cancelled; unlike a message, a key cannot be missed."""
    return f"difuso:cancel:{job_id}"


def backlog(ref: str) -> str:
    """Hash: job id -> image-steps left to do."""
    return f"difuso:backlog:{ref}"


def wake(ref: str) -> str:
    """List: tokens that idle workers block on, for "there may be work". A lost token costs a second, not a job."""
    return f"difuso:wake:{ref}"


def asked(model: str) -> str:
    """String: the time since which jobs wait for a model whose workers sleep."""
    return f"difuso:asked:{model}"


def receipt(worker: str) -> str:
    """String: what the last claim of a worker has taken (JSON), so that a repeated claim has the same answer."""
    return f"difuso:receipt:{worker}"


def index(owner: str | None) -> str:
    """Sorted set: job id -> time of acceptance, of the jobs of an owner, or `*` of all; None without API keys."""
    return f"difuso:index:{owner or ''}"


def shares(owner: str) -> str:
    """Hash: job id -> image-steps, of the jobs of an owner with limits."""
    return f"difuso:shares:{owner}"


def account(owner: str) -> str:
    """Hash: the balance in image-steps of an owner with a rate, and the time of that balance."""
    return f"difuso:account:{owner}"


def room(owner: str) -> str:
    """Hash: the balance in bytes of an owner whose stored bytes are limited, and the time of that balance."""
    return f"difuso:room:{owner}"


NAMES = Queue.redis_queues_keys
_PREFIX = Queue.redis_queue_namespace_prefix


def queue_key(name: QueueName) -> str:
    """Returns the key of the list of waiting jobs."""
    return f"{_PREFIX}{name}"


def running_key(name: QueueName) -> str:
    """Returns the key of the sorted set of running jobs: JOB:EXECUTION, by the time when its heartbeat expires."""
    return StartedJobRegistry.key_template.format(name)


def finished_key(name: QueueName) -> str:
    """Returns the key of the sorted set of jobs that succeeded, by the time when they are forgotten."""
    return FinishedJobRegistry.key_template.format(name)


def failed_key(name: QueueName) -> str:
    """Returns the key of the sorted set of jobs that failed or were cancelled, by the time when they are forgotten."""
    return FailedJobRegistry.key_template.format(name)


def queues_of(ref: str) -> list[QueueName]:
    """Returns the queues of a version of a model that this difuso can read, the most urgent first."""
    return [
        QueueName(ref, contract, urgency) for urgency in URGENCIES for contract in range(1, understanding.CONTRACT + 1)
    ]


def known_queues(client: redis.Redis) -> list[QueueName]:
    """Returns all queues of difuso that had a job, the most urgent first, newer contracts' too."""
    members: Any = client.smembers(NAMES)
    found = (QueueName.read(each.decode().removeprefix(_PREFIX)) for each in members)
    return sorted((name for name in found if name is not None), key=lambda name: (name.urgency, name))
