"""The Gaussian oracle: of pixels ~ N(0, s^2) the best prediction is a formula, so every sampler's result is known.

    E[eps | x_t] = sqrt(1 - abar) x_t / (abar s^2 + 1 - abar)

A run is then linear in x_T and in the noise it draws. This is section 2.9 of the reference "diffusion-science".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from difuso.model import NoiseSchedule, Plan
from difuso.model.plans.plan import Column, Prediction
from difuso.model.plans.schedule import FloatTable

LINEAR = NoiseSchedule.linear(1000)


def abar_at(schedule: NoiseSchedule, timesteps: Sequence[float] | FloatTable) -> FloatTable:
    """Returns alphas_cumprod at timesteps; between them log sigma is linear."""
    t = np.asarray(timesteps)
    if np.issubdtype(t.dtype, np.integer):
        return np.array(schedule.alphas_cumprod[t])
    return np.array(1 / (1 + schedule.sigma_at(t) ** 2))


class GaussianDenoiser:
    """The oracle as a network. It remembers the timesteps of its calls."""

    def __init__(self, schedule: NoiseSchedule = LINEAR, s: float = 0.5, prediction: Prediction = "eps") -> None:
        self.schedule, self.s, self.prediction = schedule, s, prediction
        self.timesteps: list[float] = []

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x_t),)
        assert t.dtype in (torch.int64, torch.float32)
        self.timesteps.append(t[0].item())
        abar = torch.from_numpy(abar_at(self.schedule, t.numpy())).to(x_t).view(-1, 1, 1, 1)
        signal, spread = abar.sqrt(), (1 - abar).sqrt()
        posterior = x_t / (abar * self.s**2 + 1 - abar)
        return {
            "eps": spread * posterior,
            "x0": signal * self.s**2 * posterior,
            "v": signal * spread * (1 - self.s**2) * posterior,
            "flow": (spread - signal * self.s**2) * posterior,
        }[self.prediction]


class Outcome(NamedTuple):
    """The outcome of a run that began at x_T = 1, or with variance 1."""

    multiplier: float
    std: float


def follow(plan: Plan, s: float, schedule: NoiseSchedule = LINEAR, prediction: Prediction = "eps") -> Outcome:
    """Follows a plan to its end, in float64, by mean and covariance of x and what was kept of the last three calls."""
    one = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    denoiser = GaussianDenoiser(schedule, s, prediction)
    mean, covariance = np.array([1.0, 0.0, 0.0, 0.0]), np.diag([1.0, 0.0, 0.0, 0.0])
    for row, t in zip(plan.table, plan.timesteps, strict=True):
        out = float(denoiser(one, torch.tensor([t], dtype=None if isinstance(t, int) else torch.float32)))
        x0 = row[Column.X0_X] + row[Column.X0_OUT] * out
        x = row[Column.A] + row[Column.B] * x0 + row[Column.OUT] * out
        step = np.eye(4, k=-1)
        step[0] = x, row[Column.C], row[Column.D], row[Column.H]
        step[1] = row[Column.KEEP_X] + row[Column.KEEP_X0] * x0, 0.0, 0.0, 0.0
        if not step[1].any():  # nothing is kept, and what was kept stays
            step[1:] = np.eye(4)[1:]
        mean, covariance = step @ mean, step @ covariance @ step.T
        covariance[0, 0] += row[Column.S] ** 2
    return Outcome(float(mean[0]), math.sqrt(covariance[0, 0]))


def slopes(plan: Plan, schedule: NoiseSchedule = LINEAR) -> tuple[FloatTable, FloatTable]:
    """Returns k, the weight of the slope, and the step before in lambda, of `dpmpp`'s rows that extrapolate."""
    abar = abar_at(schedule, plan.timesteps)
    h = np.diff(np.log(abar / (1 - abar)) / 2)
    b, c = (plan.table[1:-1, column] for column in (Column.B, Column.C))
    return -c / (b + c) * h[:-1] / h[1:], h[:-1]


def with_slope_weight(plan: Plan, k: float, schedule: NoiseSchedule = LINEAR) -> Plan:
    """Returns a plan of `dpmpp` whose slopes have another weight; 1/2 gives the solver of other projects."""
    table = plan.table.copy()
    own, _ = slopes(plan, schedule)
    c = table[1:-1, Column.C] * k / own
    table[1:-1, Column.B] += table[1:-1, Column.C] - c
    table[1:-1, Column.C] = c
    return dataclasses.replace(plan, table=table)


def flow(s: float, schedule: NoiseSchedule = LINEAR) -> float:
    """Returns what the probability flow makes of x_T = 1, without a solver: y / sqrt(s^2 + sigma^2) stays the same."""
    abar = schedule.alphas_cumprod[-1]
    return s / math.sqrt(abar * s * s + 1 - abar)
