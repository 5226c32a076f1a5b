"""The errors of training."""

from difuso.model.errors import NonFiniteSample


class RecipeError(ValueError):
    """The recipe cannot be used; the message names the key and what it may be."""


class Diverged(NonFiniteSample):
    """Many gradients in a row were not finite."""
