"""The errors of this package.

ModelError
├── PlanError            a sampling run that does not exist (also a ValueError)
├── CheckpointError      a folder that cannot be served
│   ├── ForeignError     code of another package that fails
│   └── MissingFolder    a folder that is not there, perhaps for a moment (also a FileNotFoundError)
└── NonFiniteSample      the network produced NaN or infinity

A folder that cannot be read at the moment is an OSError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ModelError(Exception):
    """Base of every error raised by this package."""


class PlanError(ModelError, ValueError):
    """A sampling run that is not possible; the message names the limit.

    Attributes:
        parameter: name of the parameter at fault; None if no parameter of a request is.
        reason: what is wrong with the parameter, to be read after its name; without the value, which may be anything.

    Examples:
        >>> error = PlanError("must lie between 1 and 1000", "steps", got=0)
        >>> str(error), error.parameter
        ('steps must lie between 1 and 1000, got 0', 'steps')
    """

    def __init__(self, reason: str, parameter: str | None = None, *, got: object = None) -> None:
        about = "" if parameter is None else f"{parameter} "
        super().__init__(f"{about}{reason}" if got is None else f"{about}{reason}, got {got}")
        self.reason = reason
        self.parameter = parameter


class CheckpointError(ModelError):
    """The checkpoint folder is incomplete, damaged or of an unknown kind; the message names file and reason."""


class ForeignError(CheckpointError):
    """Code of another package failed, which a config or a recipe names; the error that it raised is the cause."""


class MissingFolder(CheckpointError, FileNotFoundError):
    """There is no such folder, perhaps for a moment."""


class NonFiniteSample(ModelError):
    """The network produced NaN or infinity: the weights or the number format do not fit this input."""


MAX_REASON = 300  # characters


def may_pass(error: Exception) -> bool:
    """Returns whether the same files may load later, because the disk or the memory was at fault."""
    return isinstance(error, OSError | MemoryError)


def reason_of(error: Exception) -> str:
    """Returns why a folder is refused, as clients may see it: of an unexpected error only the class."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{Path(str(error.filename)).name} cannot be read: {error.strerror}"
    else:
        text = str(error) if isinstance(error, ModelError) else f"it cannot be loaded ({type(error).__name__})"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:MAX_REASON])


@contextmanager
def refused(complaint: str) -> Iterator[None]:
    """Turns the errors of values that describe no model or network into CheckpointError, with this complaint."""
    try:
        yield
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{complaint}: {error}") from error
