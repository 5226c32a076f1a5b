"""The reports that workers write every few seconds for front ends."""

from pydantic import Field

from ..contract import MAX_NUMBER, MAX_SECONDS
from ..values import Reported


class ModelReport(Reported):
    """A worker's report on one model.

    Attributes:
        ready: whether the model is loaded and warm.
        rate: the measured image-steps per second with full batches.
        step_seconds: the measured time of one step of a single image.
        reason: why the worker refuses the model; None if it does not.
    """

    ready: bool
    sha256: str | None = None
    rate: float | None = Field(default=None, ge=1 / MAX_NUMBER, le=MAX_NUMBER)
    step_seconds: float | None = Field(default=None, ge=0, le=MAX_SECONDS)
    reason: str | None = None


class WorkerReport(Reported):
    """A worker's report on itself, written every few seconds; `at` is its time in seconds since the epoch."""

    name: str
    at: float
    slots: int
    models: dict[str, ModelReport]
