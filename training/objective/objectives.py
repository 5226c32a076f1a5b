"""The loss of a recipe, by its name."""

from collections.abc import Callable
from importlib import import_module

from torch import Tensor

from difuso.model.errors import ForeignError
from difuso.model.foreign.code import foreign_code, load
from difuso.model.foreign.names import is_foreign
from difuso.model.plans.schedule import NoiseSchedule

from ..choices import LOSSES
from ..recipe import Recipe
from .losses import Losses, Network


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> Callable[..., Losses]:
    """Returns the loss of a recipe.

    A classifier's loss takes the true classes too, and a student's its teacher. A function of another package is called
    as function(network, x0, t, noise, schedule). Its loss raises ForeignError if the function fails, or returns
    anything but one float for each image.
    """
    if is_foreign(recipe.loss):
        return _own(recipe.loss, schedule)
    return import_module(f".{LOSSES[recipe.loss].module}", __package__).objective_of(recipe, schedule)


def _own(name: str, schedule: NoiseSchedule) -> Callable[..., Losses]:
    function = load(name)

    def own_loss(network: Network, x0: Tensor, t: Tensor, noise: Tensor) -> Losses:
        with foreign_code(name, "be called"):
            loss = function(network, x0, t, noise, schedule)
        if not isinstance(loss, Tensor) or loss.shape != (len(x0),) or not loss.is_floating_point():
            raise ForeignError(f"{name} must return a tensor of {len(x0)} floats, one for each image")
        return Losses.of_prediction(loss, loss)

    return own_loss
