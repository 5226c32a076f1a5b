"""Distributions that training draws its timesteps from."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from model.plans.schedule import NoiseSchedule

from ..recipe import Recipe, Timesteps


class TimestepSampler(ABC):
    """Draws timesteps."""

    def __init__(self, num_train_timesteps: int) -> None:
        self._total = num_train_timesteps

    @abstractmethod
    def draw(self, count: int, generator: Generator) -> Tensor:
        """Returns timesteps, shape (count,)."""


class Uniform(TimestepSampler):
    """Draws every timestep with the same probability."""

    def draw(self, count: int, generator: Generator) -> Tensor:
        return torch.randint(0, self._total, (count,), generator=generator)


class Stratified(TimestepSampler):
    """Draws one timestep from each of as many equal parts of 0..T-1 as there are images, in random order.

    Each image's timestep is uniform, but a batch always has a little of every noise level, which takes some noise out
    of the gradient (the low-discrepancy sampler of Kingma et al. 2021, "Variational Diffusion Models").
    """

    def draw(self, count: int, generator: Generator) -> Tensor:
        places = torch.randperm(count, generator=generator) + torch.rand(
            count, generator=generator, dtype=torch.float64
        )
        return (places * self._total / count).long()


class LogitNormal(TimestepSampler):
    """Draws u = (t + 1) / T with a normally distributed logit, which prefers the middle (Esser et al. 2024, eq. 19).

    The mean is 0 and the deviation 1. The shift of a flow adds its logarithm to the logit of the time.
    """

    def draw(self, count: int, generator: Generator) -> Tensor:
        u = torch.randn(count, generator=generator, dtype=torch.float64).sigmoid()
        return (u * self._total).long().clamp(max=self._total - 1)


TIMESTEP_SAMPLERS: dict[Timesteps, type[TimestepSampler]] = {
    "uniform": Uniform,
    "stratified": Stratified,
    "logit_normal": LogitNormal,
}


def sampler_of(recipe: Recipe, schedule: NoiseSchedule) -> TimestepSampler:
    """Makes the sampler that a recipe names."""
    return TIMESTEP_SAMPLERS[recipe.timesteps](schedule.num_train_timesteps)
