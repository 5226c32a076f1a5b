"""What can go wrong in the science, and what to do about it.

ModelError
├── PlanError          the asked-for sampling run does not exist (also a ValueError)
├── CheckpointError    a folder that cannot be served
└── NonFiniteSample    the network produced NaN or infinity
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of every error raised by this package."""


class PlanError(ModelError, ValueError):
    """A sampling run that is not possible; the message names the limit.

    Attributes:
        parameter: that cannot be as it is; None if it is nothing that a run is asked for.
        reason: what is wrong with it, to be read after its name; without the value, which may be anything.
    """

    def __init__(self, reason: str, parameter: str | None = None, *, got: object = None) -> None:
        about = "" if parameter is None else f"{parameter} "
        super().__init__(f"{about}{reason}" if got is None else f"{about}{reason}, got {got}")
        self.reason = reason
        self.parameter = parameter


class CheckpointError(ModelError):
    """The checkpoint folder is incomplete, damaged or of an unknown kind; the message names file and reason."""


class NonFiniteSample(ModelError):
    """The network produced NaN or infinity: the weights or the number format do not suit this input."""


MAX_REASON = 300  # characters


def reason_of(error: Exception) -> str:
    """Why a folder is refused, in words for everyone: short, and fit for a terminal and for JSON.

    Of an error that nobody foresaw only the kind is told; its message may be about our insides, the log has it.
    """
    text = str(error) if isinstance(error, ModelError) else f"it cannot be loaded ({type(error).__name__})"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:MAX_REASON])
