"""Imports and runs code of other packages, whose errors become ours."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ..errors import ForeignError
from .names import module_of

PATH = re.compile(r"""[^\s'"]*[/\\][^\s'"]*""")  # left out of what clients may read


@contextmanager
def foreign_code(name: str, wanted: str) -> Iterator[None]:
    """Makes every error of another package's code a ForeignError, "`name` cannot `wanted`"; even `SystemExit`.

    It has the first line of the error's text, without paths. Errors of memory or of the device stay as they are,
    because the engine knows what to do.
    """
    try:
        yield
    except _ours_to_handle():
        raise
    except ModuleNotFoundError as error:
        raise ForeignError(
            f"{name} cannot {wanted}: Python finds no module {error.name}; install its package beside difuso, or name "
            "its folder in PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:  # a script that is imported may end its process
        raise ForeignError(f"{name} cannot {wanted}: {raised_by(error)}") from error


def raised_by(error: BaseException) -> str:
    """Returns what another package's code raised, as clients may read it."""
    said = PATH.sub("…", str(error).strip().partition("\n")[0])
    return f"its code raised {type(error).__name__}{said and ': '}{said}"


def _ours_to_handle() -> tuple[type[BaseException], ...]:
    torch = sys.modules.get("torch")  # which front ends never import
    of_devices = () if torch is None else (torch.OutOfMemoryError, torch.AcceleratorError)
    return (ForeignError, MemoryError, *of_devices)


def load(name: str) -> Any:
    """Imports the class or function of a name that is allowed; raises ForeignError if it cannot be imported."""
    with foreign_code(name, "be imported"):
        return getattr(import_module(module_of(name)), name.partition(":")[2])
