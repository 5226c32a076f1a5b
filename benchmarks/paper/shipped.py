"""faces64, the network that ships, on the paper's linear schedule."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difuso.model import NoiseSchedule, Plan, load_checkpoint, make_plan, networks_of, sample
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.prediction import Prediction, eps_from_output
from difuso.model.sampling import Denoiser

LINEAR = NoiseSchedule.linear()
SHAPE = (3, 64, 64)
SEEDS = (3, 4, 5, 6)


@dataclass(frozen=True, eq=False)
class Faces:
    """A network that was trained on another schedule, asked at the level of the same noise.

    Both schedules keep the variance of x_t at 1, so an x_t of one is an x_t of the other wherever abar is the same.

    Attributes:
        levels: the timestep of the network's own schedule for each timestep of the paper's; fractional, shape (1000,).
    """

    network: Denoiser
    prediction: Prediction
    levels: Tensor

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Returns the prediction at timesteps of the paper's schedule: a `model.sampling.Denoiser`."""
        out: Tensor = self.network(x, self.levels[t])
        return out

    def eps(self, x: Tensor, t: int) -> Tensor:
        """Returns the predicted noise, shape of x."""
        of_x, of_output = eps_from_output(self.prediction, float(LINEAR.alphas_cumprod[t]))
        return of_x * x + of_output * self(x, torch.full((len(x),), t))

    def plan(self, **choices: Any) -> Plan:
        """Makes a plan on the paper's schedule."""
        return make_plan(LINEAR, prediction=self.prediction, **choices)


@cache
def load_faces() -> Faces:
    checkpoint = load_checkpoint(Path("checkpoints/faces64"))
    levels = torch.from_numpy(checkpoint.schedule.timestep_at(LINEAR.sigmas)).float()
    return Faces(networks_of(checkpoint)["denoiser"], checkpoint.config.prediction, levels)


def starts() -> Tensor:
    """Draws x_999 of each seed."""
    return draw_noise([image_generator(seed) for seed in SEEDS], SHAPE)


@cache
def right_chain() -> dict[int, Tensor]:
    """Runs Fig. 6 without its slips: all 1000 steps, with variance beta as printed there, and nothing clipped.

    Returns:
        x after the steps at timesteps 2 and 0, each of shape (len(SEEDS), 3, 64, 64).
    """
    faces = load_faces()
    plan = faces.plan(sampler="ddpm", steps=1000, spacing="linspace", variance="fixed_large", clip="none")
    kept: dict[int, Tensor] = {}

    def keep(t: float, x: Tensor, x0: Tensor) -> None:
        if t in (2, 0):
            kept[int(t)] = x

    sample(plan, faces, shape=SHAPE, seeds=SEEDS, on_step=keep)
    return kept
