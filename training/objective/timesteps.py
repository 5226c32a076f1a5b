"""Distributions that training draws its timesteps from."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from difuso.model.plans.schedule import NoiseSchedule

from ..recipe import Recipe, Timesteps

DrawTimesteps = Callable[[int, Generator], Tensor]  # from the number of images to their timesteps, shape (count,)


def uniform(count: int, generator: Generator, *, total: int) -> Tensor:
    """Draws every timestep of 0..total-1 with the same probability."""
    return torch.randint(0, total, (count,), generator=generator)


def stratified(count: int, generator: Generator, *, total: int) -> Tensor:
    """Draws one timestep from each of as many equal parts of 0..total-1 as there are images, in random order.

    Each image's timestep is uniform, but a batch always has a little of every noise level, which takes some noise out
    of the gradient (the low-discrepancy sampler of Kingma et al. 2021, "Variational Diffusion Models").
    """
    places = torch.randperm(count, generator=generator) + torch.rand(count, generator=generator, dtype=torch.float64)
    return (places * total / count).long()


def logit_normal(count: int, generator: Generator, *, total: int) -> Tensor:
    """Draws u = (t + 1) / T with a normally distributed logit, which prefers the middle (Esser et al. 2024, eq. 19).

    The mean is 0 and the deviation 1. The shift of a flow adds its logarithm to the logit of the time.
    """
    u = torch.randn(count, generator=generator, dtype=torch.float64).sigmoid()
    return (u * total).long().clamp(max=total - 1)


def listed(count: int, generator: Generator, *, timesteps: Sequence[float]) -> Tensor:
    """Draws whole timesteps of a list with the same probability."""
    drawn = torch.randint(0, len(timesteps), (count,), generator=generator)
    return torch.tensor(timesteps, dtype=torch.int64)[drawn]


TIMESTEPS: dict[Timesteps, Callable[..., Tensor]] = {
    "uniform": uniform,
    "stratified": stratified,
    "logit_normal": logit_normal,
}


def timesteps_of(recipe: Recipe, schedule: NoiseSchedule) -> DrawTimesteps:
    """Returns the function that draws timesteps as a recipe says; those of a student of few steps are of its plan."""
    if recipe.teacher_calls > 1:
        return partial(listed, timesteps=recipe.model_config({}).plan(schedule).timesteps)
    return partial(TIMESTEPS[recipe.timesteps], total=schedule.num_train_timesteps)
