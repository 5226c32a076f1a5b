"""Which answers of Redis are worth asking again for."""

from __future__ import annotations

import pytest
import redis

from difuso.jobs.redis.refusals import is_refused_for_good

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError(WRONG_TYPE),
        redis.ResponseError(f"Command # 1 (HSET a b c) of pipeline caused error: {WRONG_TYPE}"),
        redis.ResponseError("hash value is not an integer"),
        redis.ResponseError("invalid expire time in 'set' command"),
    ],
)
def test_what_redis_holds_does_not_change_by_asking_again(error: Exception) -> None:
    assert is_refused_for_good(error)


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to"),
        redis.ResponseError(
            "Command # 2 (EXEC) of pipeline caused error: NOREPLICAS Not enough good replicas to write."
        ),
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        redis.ConnectionError("refused"),
        redis.TimeoutError("timed out"),
        redis.WatchError("changed"),
        ValueError("none of Redis"),
    ],
)
def test_a_state_of_redis_passes(error: Exception) -> None:
    assert not is_refused_for_good(error)
