"""Whatever serves one request after the other: Redis' main thread, a front end's process."""

from __future__ import annotations

import simpy

from .rates import Cost


class Server:
    """Serves requests in the order in which they come.

    Attributes:
        commands, seconds: what it has been asked for so far; the seconds may be more than have passed.
    """

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._free_at = 0.0
        self.commands = 0.0
        self.seconds = 0.0

    def serve(self, cost: Cost) -> float:
        """Takes a request now; returns the seconds until it has been served."""
        self._free_at = max(self._free_at, self._env.now) + cost.seconds
        self.commands += cost.commands
        self.seconds += cost.seconds
        return self._free_at - self._env.now
