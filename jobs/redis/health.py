"""The state of the Redis that holds the queue."""

from dataclasses import dataclass

import redis


@dataclass(frozen=True)
class RedisHealth:
    """The state of Redis.

    Attributes:
        memory_used: the memory that it uses, in bytes.
        memory_max: the memory that it may use, in bytes; 0 without a limit.
        append_only_ok: whether it appends every write to a file, and the last write and rewrite succeeded.
    """

    memory_used: int
    memory_max: int
    append_only_ok: bool


def read_health(client: redis.Redis) -> RedisHealth:
    """Returns the state of Redis, in one round trip."""
    with client.pipeline(transaction=False) as pipe:
        pipe.info("memory")
        pipe.info("persistence")
        memory, persistence = pipe.execute()
    statuses = {persistence.get(f"aof_last_{what}_status") for what in ("write", "bgrewrite")}
    return RedisHealth(
        memory_used=memory["used_memory"],
        memory_max=memory.get("maxmemory", 0),
        append_only_ok=bool(persistence.get("aof_enabled")) and statuses == {"ok"},
    )
