"""The errors of training."""

from collections.abc import Iterator
from contextlib import contextmanager

from difuso.model.errors import CheckpointError, NonFiniteSample


class RecipeError(ValueError):
    """The recipe cannot be used; the message names the key and what it may be."""


class Diverged(NonFiniteSample):
    """Many gradients in a row were not finite."""


@contextmanager
def checkpoint_errors(key: str, folder: str) -> Iterator[None]:
    """Makes the block's CheckpointError a RecipeError, which says that the recipe's `key` names this folder."""
    try:
        yield
    except CheckpointError as error:
        raise RecipeError(f"{key} = {folder!r}: {error}") from error
