"""The slowness of a model's steps, relative to their measured time."""

KEPT = 0.95  # of what earlier steps showed, after each step: the last twenty decide


class Slowness:
    """Compares the time of one model's steps with that alone, on an idle machine, in full batches.

    They take longer while other programs run, while the worker also steps other models, and in partial batches.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._expected = 0.0

    def note(self, seconds: float, *, expected: float) -> None:
        """Notes a step that took some seconds, and how many were expected."""
        self._seconds = KEPT * self._seconds + seconds
        self._expected = KEPT * self._expected + expected

    @property
    def factor(self) -> float:
        """The seconds that a step takes for each expected one; 1 before the first step."""
        return self._seconds / self._expected if self._expected else 1.0
