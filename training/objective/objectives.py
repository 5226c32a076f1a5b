"""The loss of a recipe, and its timesteps."""

from collections.abc import Callable
from importlib import import_module

from model.plans.schedule import NoiseSchedule

from ..choices import loss_of
from ..recipe import Recipe
from .losses import Losses
from .timesteps import TimestepSampler

Objective = tuple[Callable[..., Losses], TimestepSampler]


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> Objective:
    """Returns the loss, and its timesteps.

    A classifier's loss takes the true classes too, and a student's its teacher.
    """
    return import_module(f".{loss_of(recipe.loss).module}", __package__).objective_of(recipe, schedule)
