"""The loss of a recipe, and the distribution that training draws its timesteps from, by their names."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

import torch
from torch import Generator, Tensor

from difuso.model.errors import ForeignError
from difuso.model.foreign.code import foreign_code, load
from difuso.model.foreign.names import is_foreign
from difuso.model.plans.schedule import NoiseSchedule

from ..choices import LOSSES
from ..recipe import Recipe
from .losses import Losses, Network

REFINING = 8  # one image in so many is shown to the calls of a run after its first, which have less to learn

DrawTimesteps = Callable[[int, Generator], Tensor]  # from the number of images to their timesteps, shape (count,)


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


def of_a_run(count: int, generator: Generator, *, timesteps: Sequence[float]) -> Tensor:
    """Draws the first timestep of a run, and for one image in `REFINING` any of the others."""
    first, *others = timesteps
    refining = -(-count // REFINING) if others else 0
    most = torch.full((count - refining,), int(first))
    return torch.cat([most, listed(refining, generator, timesteps=others)]) if others else most


TIMESTEPS: dict[str, Callable[..., Tensor]] = {
    "uniform": uniform,
    "stratified": stratified,
    "logit_normal": logit_normal,
}


def timesteps_of(recipe: Recipe, schedule: NoiseSchedule) -> DrawTimesteps:
    """Returns the function that draws timesteps as a recipe says; those of a student of few steps are of its plan.

    A function of another package is called as function(count, generator, total). Drawing raises ForeignError if the
    function fails, or returns anything but `count` whole numbers from 0 to total - 1, int64.
    """
    if recipe.loss == "regression" or recipe.teacher_calls > 1:
        draw = of_a_run if recipe.loss == "regression" else listed
        return partial(draw, timesteps=recipe.model_config({}).plan(schedule).timesteps)
    total = schedule.num_train_timesteps
    if is_foreign(recipe.timesteps):
        return _own_timesteps(recipe.timesteps, total)
    return partial(TIMESTEPS[recipe.timesteps], total=total)


def _own_timesteps(name: str, total: int) -> DrawTimesteps:
    function = load(name)

    def draw(count: int, generator: Generator) -> Tensor:
        with foreign_code(name, "be called"):
            t = function(count, generator, total)
        whole = isinstance(t, Tensor) and t.shape == (count,) and t.dtype == torch.int64
        if not whole or t.min() < 0 or t.max() >= total:
            raise ForeignError(f"{name} must return {count} timesteps from 0 to {total - 1}, a tensor of int64")
        return t.cpu()

    return draw
