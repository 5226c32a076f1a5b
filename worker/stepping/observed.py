"""What the engine observes of a model's steps: how slow they are, and how many jobs share them."""

import time

KEPT_SLOWNESS = 0.95  # of what earlier steps showed, after each step: the last twenty decide
LATELY_SECONDS = 0.5  # how long a step counts as one of late; clients that wait for a picture have asked again by then


class Slowness:
    """Compares the time of one model's steps with that alone, on an idle machine, in full batches.

    They take longer while other programs run, while the worker also steps other models, and in partial batches.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._expected = 0.0

    def note(self, seconds: float, *, expected: float) -> None:
        """Notes a step that took some seconds, and how many were expected."""
        self._seconds = KEPT_SLOWNESS * self._seconds + seconds
        self._expected = KEPT_SLOWNESS * self._expected + expected

    @property
    def factor(self) -> float:
        """The seconds that a step takes for each expected one; 1 before the first step."""
        return self._seconds / self._expected if self._expected else 1.0


class Company:
    """Remembers how many jobs have shared a step lately; none, if each had its steps for itself."""

    def __init__(self) -> None:
        self._most = 0
        self._at = 0.0

    def note(self, jobs: int) -> None:
        """Notes a step that so many jobs shared."""
        if jobs > 1 and jobs >= self.most:
            self._most, self._at = jobs, time.monotonic()

    @property
    def most(self) -> int:
        """The most jobs that have shared a step lately; 0 if there was no such step."""
        return self._most if time.monotonic() - self._at < LATELY_SECONDS else 0
