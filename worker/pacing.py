"""What a loop does now and then, each thing at its own pace."""

from __future__ import annotations

import time


class Pacer:
    """Remembers when each thing is due again."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def is_due(self, what: str, seconds: float) -> bool:
        """Whether it is time; then the next time is in so many seconds."""
        if time.monotonic() < self._due.get(what, 0.0):
            return False
        self.put_off(what, seconds)
        return True

    def put_off(self, what: str, seconds: float) -> None:
        """Makes it due in so many seconds."""
        self._due[what] = time.monotonic() + seconds
