"""Pacing for a loop that does several things, each at its own interval."""

import time


class Pacer:
    """Remembers when each thing is due next."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def is_due(self, what: str, seconds: float) -> bool:
        """Returns whether this thing is due; if it is, the next time is after `seconds`."""
        if time.monotonic() < self._due.get(what, 0.0):
            return False
        self.put_off(what, seconds)
        return True

    def put_off(self, what: str, seconds: float) -> None:
        """Makes this thing due after `seconds`."""
        self._due[what] = time.monotonic() + seconds
