"""The errors of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from difuso.model.errors import NonFiniteSample

if TYPE_CHECKING:
    from torch import Tensor


class RecipeError(ValueError):
    """The recipe cannot be used; the message names the key and what it may be."""


class Diverged(NonFiniteSample):
    """Many gradients in a row were not finite.

    Attributes:
        batch: this process's part of the last batch, by name: `x0`, `t`, `noise`, and `labels` if there are any.
    """

    def __init__(self, message: str, batch: dict[str, Tensor]) -> None:
        super().__init__(message)
        self.batch = batch
