"""Errors that the user of the command line can correct."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Printed as one line, without a traceback; the message says what to do.

    Attributes:
        status: exit status of the command.
    """

    status = 1


class CannotVerify(UserError):
    """An image cannot be compared with its recipe; the exit status 1 says that they differ."""

    status = 2


@contextmanager
def user_errors(about: str | None = None) -> Iterator[None]:
    """Turns the errors of models, recipes, requests and images inside the block into UserError.

    Args:
        about: text before the message, such as the name of a model.
    """
    from evaluation.errors import EvaluationError  # here, so that the command line starts quickly
    from jobs.errors import ImageRefused, RequestRefused
    from model.errors import ModelError
    from training.errors import RecipeError

    try:
        yield
    except (EvaluationError, ImageRefused, ModelError, RecipeError, RequestRefused) as error:
        raise UserError(str(error) if about is None else f"{about}: {error}") from error
