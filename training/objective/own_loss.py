"""A loss of another package, which a recipe names."""

from torch import Tensor

from model.errors import ForeignError
from model.foreign.code import foreign_code, load
from model.plans.schedule import NoiseSchedule

from ..recipe import Recipe
from .losses import Losses, Network
from .timesteps import TimestepSampler, sampler_of


class OwnLoss:
    """The loss of a function that is called as function(network, x0, t, noise, schedule).

    Args:
        name: its name, `package.module:function`.
        schedule: that of the model.
    """

    def __init__(self, name: str, schedule: NoiseSchedule) -> None:
        self._name = name
        self._function = load(name)
        self._schedule = schedule

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor) -> Losses:
        """The losses of a network, which the function is to call at noisy images; see `losses.Objective`.

        Raises ForeignError if the function fails, or returns anything but one float for each image.
        """
        with foreign_code(self._name, "be called"):
            loss = self._function(network, x0, t, noise, self._schedule)
        if not isinstance(loss, Tensor) or loss.shape != (len(x0),) or not loss.is_floating_point():
            raise ForeignError(f"{self._name} must return a tensor of {len(x0)} floats, one for each image")
        return Losses.of_prediction(loss, loss)


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> tuple[OwnLoss, TimestepSampler]:
    """Returns the recipe's loss, with its timesteps."""
    return OwnLoss(recipe.loss, schedule), sampler_of(recipe, schedule)
