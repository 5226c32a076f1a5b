"""The queues of all versions of all models. RQ keeps their names in a set, to which it adds each that gets a job."""

from typing import Any

import redis
from rq import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry

from .. import understanding
from ..contract import URGENCIES
from .keys import QueueName

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
