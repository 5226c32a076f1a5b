"""Imports and runs code of other packages, whose errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from ..errors import ForeignError
from .names import module_of

OURS_TO_HANDLE = (ForeignError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)


@contextmanager
def foreign_code(name: str, wanted: str) -> Iterator[None]:
    """Runs another package's code: what it raises, even `SystemExit`, becomes the cause of a ForeignError.

    Errors of memory or of the device stay as they are, because the engine knows what to do.

    Args:
        name: the name of the class or function.
        wanted: what the code should do, for the message: "be built".

    Raises ForeignError if the code fails.
    """
    try:
        yield
    except OURS_TO_HANDLE:
        raise
    except ModuleNotFoundError as error:
        raise ForeignError(
            f"{name} cannot {wanted}: Python finds no module {error.name}; install its package beside difuso, or name "
            "its folder in PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:  # a script that is imported may end its process
        raise ForeignError(f"{name} cannot {wanted}: its code raised {type(error).__name__}") from error


def load(name: str) -> Any:
    """Imports the class or function of a name, which must have been allowed.

    Raises ForeignError if it cannot be imported.
    """
    with foreign_code(name, "be imported"):
        return getattr(import_module(module_of(name)), name.partition(":")[2])
