"""The errors of training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from difuso.model.conditions import listed
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


def check_classes(images: str, classes: Sequence[str], other: str, wanted: Sequence[str]) -> None:
    """Raises RecipeError unless some images have the wanted classes, those of another set or of a model."""
    if list(classes) != list(wanted):
        found, others = listed(list(classes), 10), listed(list(wanted), 10)
        raise RecipeError(
            f"{images} have the classes {found}, but {other} has {others}: they must be the same, in the same order"
        )
