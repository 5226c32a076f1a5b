"""A client of Redis that loses the reply to a script, which Redis has carried out."""

from __future__ import annotations

from typing import Any

import redis


class LosesReply:
    """Sends all commands through a client; the reply to its first script is lost."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.lost = 0

    def eval(self, *args: Any) -> Any:
        answer: Any = self._client.eval(*args)
        if not self.lost:
            self.lost += 1
            raise redis.TimeoutError("the reply was lost")
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
