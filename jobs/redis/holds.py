"""What operators hold back: models whose jobs wait, and workers that claim nothing more.

Workers look at each heartbeat, so it takes effect within seconds, and costs a claim nothing.
"""

from typing import Any, Literal

import redis

from ..values import Frozen
from . import keys

Held = Literal["model", "worker"]


class Holds(Frozen):
    """The names of what is held back."""

    models: frozenset[str] = frozenset()
    workers: frozenset[str] = frozenset()


def read_holds(client: redis.Redis) -> Holds:
    members: Any = client.smembers(keys.HOLDS)
    held = [each.decode().partition(" ") for each in members]
    models, workers = (frozenset(name for kind, _, name in held if kind == wanted) for wanted in ("model", "worker"))
    return Holds(models=models, workers=workers)


def hold(client: redis.Redis, held: Held, name: str) -> None:
    """Holds a model or a worker back. Is idempotent, as `let_go` is."""
    client.sadd(keys.HOLDS, f"{held} {name}")


def let_go(client: redis.Redis, held: Held, name: str) -> None:
    client.srem(keys.HOLDS, f"{held} {name}")
