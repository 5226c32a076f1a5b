"""A loss of another package, which a recipe names."""

from collections.abc import Callable

from torch import Tensor

from model.errors import ForeignError
from model.foreign.code import foreign_code, load
from model.plans.schedule import NoiseSchedule

from ..recipe import Recipe
from .losses import Losses, Network
from .timesteps import TimestepSampler, sampler_of


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> tuple[Callable[..., Losses], TimestepSampler]:
    """Returns the loss of a function that is called as function(network, x0, t, noise, schedule), with its timesteps.

    It raises ForeignError if the function fails, or returns anything but one float for each image.
    """
    function = load(recipe.loss)

    def own_loss(network: Network, x0: Tensor, t: Tensor, noise: Tensor) -> Losses:
        with foreign_code(recipe.loss, "be called"):
            loss = function(network, x0, t, noise, schedule)
        if not isinstance(loss, Tensor) or loss.shape != (len(x0),) or not loss.is_floating_point():
            raise ForeignError(f"{recipe.loss} must return a tensor of {len(x0)} floats, one for each image")
        return Losses.of_prediction(loss, loss)

    return own_loss, sampler_of(recipe, schedule)
