"""The plain loop over one plan, with which the server's engine must agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .errors import PlanError
from .plans.plan import Column, Plan
from .rng import draw_noise, image_generator
from .step import advance

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A network, or a formula in its place: from (x_t (B, C, H, W), t (B,)) to the prediction, shape of x_t.

t is int64, or float32 if a plan visits levels between the timesteps. If the variance was learned, the prediction has
twice the channels.
"""

Guide = Callable[[Tensor, Tensor], Tensor]
"""A classifier's guidance: from (x_t (B, C, H, W), t (B,)) to the gradient of log p(y | x_t), shape of x_t."""


def sample(
    plan: Plan,
    denoiser: Denoiser,
    *,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    x_start: Tensor | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """Runs a plan to images, shape (len(seeds), C, H, W).

    Args:
        plan: the plan of `make_plan`.
        denoiser: called len(plan) times with all images at once.
        shape: shape (C, H, W) of one image.
        seeds: one seed per image; image i of a request with seed s has the seed s + i.
        device: the device of the state.
        dtype: the dtype of the state, and so of the denoiser's input.
        x_start: the x_t from which a plan with a `start` begins, shape (len(seeds), C, H, W); None for pure noise. The
            first draw of each seed is skipped then: it is the noise for `q_sample`, which no later step may repeat.
        guide: the guidance of a plan with a classifier scale.

    Raises:
        PlanError: if the plan needs a guide and there is none.
    """
    steps = sample_steps(
        plan, denoiser, shape=shape, seeds=seeds, device=device, dtype=dtype, x_start=x_start, guide=guide
    )
    for _, x, _ in steps:
        images = x
    return images


@torch.inference_mode()
def sample_steps(
    plan: Plan,
    denoiser: Denoiser,
    *,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    x_start: Tensor | None = None,
    guide: Guide | None = None,
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Runs a plan as `sample` does; yields (timestep, x_t after the step, predicted x0) after each call."""
    if plan.guided and guide is None:
        raise PlanError("this plan has a classifier scale, so it needs a guide")
    generators = [image_generator(seed) for seed in seeds]
    noise = draw_noise(generators, shape)
    x = (noise if x_start is None else x_start).to(device, dtype)
    x0 = x0_previous = torch.zeros_like(x)
    table = torch.from_numpy(plan.table.copy()).to(dtype)
    for row, t in zip(table, plan.timesteps, strict=True):
        stochastic = bool(row[Column.S] != 0)
        z = draw_noise(generators, shape).to(x) if stochastic else torch.zeros_like(x)
        times = torch.full((len(seeds),), t, device=device)
        gradient = None if guide is None else guide(x, times)
        x0_previous, x0_before = x0, x0_previous
        x, x0 = advance(x, x0_previous, denoiser(x, times), z, row.expand(len(seeds), -1), gradient, x0_before)
        yield t, x, x0
