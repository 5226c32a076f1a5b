"""Errors that the user of the command line can correct."""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from .extras import extra_with, installing

FULL = (errno.ENOSPC, errno.EDQUOT)
SYSTEM_ERROR = "(os error "  # so safetensors, which not every process has, writes an error of the system


class UserError(Exception):
    """Printed as one line, without a traceback, before the command ends with `status`; the message says what to do."""

    status = 1


class CannotVerify(UserError):
    """An image cannot be compared with its recipe; the exit status 1 says that they differ."""

    status = 2


@contextmanager
def user_errors(about: str | None = None) -> Iterator[None]:
    """Turns the errors of models, recipes, requests, images and devices inside the block into UserError.

    The message begins with `about`, such as the name of a model.
    """
    from difuso.evaluation.errors import EvaluationError  # here, so that the command line starts quickly
    from difuso.jobs.errors import ImageRefused, RequestRefused
    from difuso.model.errors import ForeignError, ModelError
    from difuso.training.errors import RecipeError
    from difuso.worker.settings import DeviceMissing

    try:
        yield
    except DeviceMissing as error:  # whatever model the block is about
        raise UserError(str(error)) from error
    except ForeignError as error:
        traceback.print_exception(error.__cause__)  # of code of the user's own
        raise UserError(str(error) if about is None else f"{about}: {error}") from error
    except (EvaluationError, ImageRefused, ModelError, RecipeError, RequestRefused) as error:
        raise UserError(str(error) if about is None else f"{about}: {error}") from error


def require(extra: str, *modules: str) -> None:
    """Raises UserError unless the modules of an extra are installed, for a command whose processes need them."""
    for module in modules:
        if find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str | None, extra: str) -> UserError:
    return UserError(f"this command needs {module}, which is not installed: {installing(extra)}")


@contextmanager
def machine_errors(command: str | None = None) -> Iterator[None]:
    """Turns missing packages, files, permissions and disk space inside the block into UserError.

    Other errors are mistakes of the program, and keep their traceback. The command decides which extra is named.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (extra := extra_with(error.name or "", command)) is None:
            raise
        raise _missing(error.name, extra) from error
    except OSError as error:
        if error.filename is None and error.errno not in FULL:  # such as a connection that breaks
            raise
        about = "" if error.filename is None else f"{error.filename}: "
        raise UserError(f"{about}{error.strerror}") from error
    except Exception as error:
        if SYSTEM_ERROR not in str(error):
            raise
        raise UserError(str(error)) from error
