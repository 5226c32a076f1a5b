"""Whole runs of one random network, by difuso and by diffusers' schedulers, with the same generators."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from difuso.model import Plan, sample
from difuso.model.noise import draw_noise, image_generator
from difuso.model.sampling import Denoiser
from tests.rounding import assert_rounded_alike

SHAPE, SEEDS = (3, 8, 8), [7, 8, 1234]
TIMESTEPS = 1000  # of all schedules here
PREDICTION_TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class RandomNetwork(nn.Module):
    """Two fixed convolutions that depend on t. Their output has the size of noise, so clipping changes some pixels.

    Args:
        out_channels: 3, or 6 with a second half for the variance.
    """

    def __init__(self, out_channels: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner = torch.randn((8, 3, 3, 3), generator=generator) / 6
        self.outer = torch.randn((out_channels, 8, 3, 3), generator=generator) / 6

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.conv2d(x, self.inner, padding=1) + (t.view(-1, 1, 1, 1) / 200).sin()
        return torch.conv2d(h.tanh(), self.outer, padding=1)


NETWORK = RandomNetwork()
WITH_VARIANCE = RandomNetwork(6)


def steps_of(plan: Plan, network: Denoiser, **arguments: Any) -> list[tuple[float, Tensor, Tensor]]:
    """Returns what `sample` shows of each step: the timestep, x after it and the predicted x0."""
    steps: list[tuple[float, Tensor, Tensor]] = []
    sample(plan, network, **arguments, on_step=lambda *step: steps.append(step))
    return steps


def ours(plan: Plan, network: Denoiser = NETWORK) -> list[Tensor]:
    """Returns x after each step."""
    return [x for _, x, _ in steps_of(plan, network, shape=SHAPE, seeds=SEEDS)]


def theirs(scheduler: Any, steps: int, network: Denoiser = NETWORK, **arguments: Any) -> list[Tensor]:
    """Returns x after each step of diffusers' pipelines, with one generator per image for x_T and for every step."""
    generators = [image_generator(seed) for seed in SEEDS]
    x = draw_noise(generators, SHAPE)
    scheduler.set_timesteps(steps)
    if "generator" in inspect.signature(scheduler.step).parameters:  # schedulers that draw no noise may have none
        arguments["generator"] = generators
    states = []
    for t in scheduler.timesteps:
        out = network(x, t.expand(len(SEEDS)))
        x = scheduler.step(out, t, x, **arguments).prev_sample
        states.append(x)
    return states


def theirs_in_sigma(scheduler: Any, levels: int, network: Denoiser = NETWORK) -> list[Tensor]:
    """Does the same as `theirs` for a scheduler whose state is y = x / sqrt(abar) with noise sigma; returns x.

    It begins at our x_T: diffusers' own beginning, sigma times noise, leaves out the 1 of sqrt(sigma^2 + 1).
    """
    scheduler.set_timesteps(levels)
    sigmas = scheduler.sigmas
    x = draw_noise([image_generator(seed) for seed in SEEDS], SHAPE)
    y = x * (sigmas[0] ** 2 + 1) ** 0.5
    states = []
    for t, sigma in zip(scheduler.timesteps, sigmas[1:], strict=True):
        out = network(scheduler.scale_model_input(y, t), t.expand(len(SEEDS)))
        y = scheduler.step(out, t, y).prev_sample
        states.append(y / (sigma**2 + 1) ** 0.5)
    return states


def assert_same_trajectory(mine: list[Tensor], reference: list[Tensor]) -> None:
    """Asserts equality to the rounding of abar, a product of as many float32 factors as there are timesteps."""
    assert len(mine) == len(reference)
    for x, y in zip(mine, reference, strict=True):
        assert_rounded_alike(x, y, steps=TIMESTEPS)
