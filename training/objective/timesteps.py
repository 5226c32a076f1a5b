"""Distributions that training draws its timesteps from, and the weights that correct the loss for them."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor

from model.plans.schedule import NoiseSchedule

from ..recipe import Recipe, Timesteps

HISTORY = 10  # losses remembered of each timestep
UNIFORM_SHARE = 0.001  # of the draws, so that no timestep is forgotten


class TimestepSampler(ABC):
    """Draws timesteps, by default without regard to the losses."""

    def __init__(self, num_train_timesteps: int) -> None:
        self._total = num_train_timesteps

    @abstractmethod
    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Returns timesteps, shape (count,), and the weights of their losses, float32, that keep the mean unbiased."""

    def learn(self, t: Tensor, losses: Tensor) -> None:  # noqa: B027  # most learn nothing
        """Takes note of the unweighted losses of a batch; both on the CPU, shape (B,)."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Continues with the result of `state`."""


class Uniform(TimestepSampler):
    """Draws every timestep with the same probability."""

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        return torch.randint(0, self._total, (count,), generator=generator), torch.ones(count)


class Stratified(TimestepSampler):
    """Draws one timestep from each of as many equal parts of 0..T-1 as there are images, in random order.

    Each image's timestep is uniform, but a batch always has a little of every noise level, which takes some noise out
    of the gradient (the low-discrepancy sampler of Kingma et al. 2021, "Variational Diffusion Models").
    """

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        places = torch.randperm(count, generator=generator) + torch.rand(
            count, generator=generator, dtype=torch.float64
        )
        return (places * self._total / count).long(), torch.ones(count)


class LogitNormal(TimestepSampler):
    """Draws u = (t + 1) / T with a normally distributed logit, which prefers the middle (Esser et al. 2024, eq. 19).

    The mean is 0 and the deviation 1. The shift of a flow adds its logarithm to the logit of the time.
    """

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        u = torch.randn(count, generator=generator, dtype=torch.float64).sigmoid()
        return (u * self._total).long().clamp(max=self._total - 1), torch.ones(count)


class LossSecondMoment(TimestepSampler):
    """Draws in proportion to the root of the mean squared loss, once there are ten losses of every timestep.

    The terms of L_vlb differ by orders of magnitude between timesteps; this takes most of the noise out of its gradient
    (Nichol & Dhariwal 2021, eq. 18).
    """

    def __init__(self, num_train_timesteps: int) -> None:
        self._losses = torch.zeros(num_train_timesteps, HISTORY, dtype=torch.float64)
        self._heard = torch.zeros(num_train_timesteps, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """The probability of each timestep, shape (T,), float64."""
        total = len(self._heard)
        if (self._heard < HISTORY).any():
            return torch.full((total,), 1 / total, dtype=torch.float64)
        roots = self._losses.square().mean(dim=1).sqrt()
        return (1 - UNIFORM_SHARE) * roots / roots.sum() + UNIFORM_SHARE / total

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        chances = self.probabilities()
        t = torch.multinomial(chances, count, replacement=True, generator=generator)
        return t, (1 / (len(chances) * chances[t])).float()

    def learn(self, t: Tensor, losses: Tensor) -> None:
        for timestep, loss in zip(t.tolist(), losses.tolist(), strict=True):
            self._losses[timestep, self._heard[timestep] % HISTORY] = loss
            self._heard[timestep] += 1

    def state(self) -> dict[str, Tensor]:
        return {"losses": self._losses.clone(), "heard": self._heard.clone()}

    def load(self, state: dict[str, Any]) -> None:
        self._losses, self._heard = state["losses"].clone(), state["heard"].clone()


TIMESTEP_SAMPLERS: dict[Timesteps, type[TimestepSampler]] = {
    "uniform": Uniform,
    "stratified": Stratified,
    "logit_normal": LogitNormal,
    "loss_second_moment": LossSecondMoment,
}


def sampler_of(recipe: Recipe, schedule: NoiseSchedule) -> TimestepSampler:
    """Makes the sampler that a recipe names."""
    return TIMESTEP_SAMPLERS[recipe.timesteps](schedule.num_train_timesteps)
