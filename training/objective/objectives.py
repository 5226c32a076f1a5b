"""The loss of a recipe, and the timesteps at which it is taken."""

from __future__ import annotations

from collections.abc import Callable

from model.plans.schedule import NoiseSchedule

from ..recipe import Recipe
from .consistency import Consistency, LogNormal
from .distillation import Distillation, Listed, plans_of
from .losses import CrossEntropy, Losses, Objective
from .timesteps import TIMESTEP_SAMPLERS, TimestepSampler


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> tuple[Callable[..., Losses], TimestepSampler]:
    """Returns what is minimised, and where.

    A classifier's loss takes the true classes too, and a student's its teacher.
    """
    if recipe.loss == "consistency":
        return Consistency(schedule), LogNormal(schedule)
    timesteps = TIMESTEP_SAMPLERS[recipe.timesteps](schedule.num_train_timesteps)
    if recipe.loss == "distillation":
        plans = plans_of(recipe, schedule)
        return Distillation(schedule, plans), timesteps if plans is None else Listed(plans[0])
    if recipe.loss == "cross_entropy":
        return CrossEntropy(schedule), timesteps
    objective = Objective(
        schedule,
        prediction=recipe.prediction,
        variance=recipe.variance,
        loss=recipe.loss,
        weighting=recipe.weighting,
        gamma=recipe.gamma,
    )
    return objective, timesteps
