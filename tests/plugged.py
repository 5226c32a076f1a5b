"""A plug-in, as somebody else would write it: samplers and schedules, right and wrong ones. It needs no torch."""

import math
from typing import Any

import numpy as np

from difuso import NoiseSchedule, PlanError, Sampler, Transition


def _ddim(chain: NoiseSchedule, options: Any) -> list[Transition]:
    """DDIM written for this module: x' = signal x0 + spread eps, and eps from x_t and x0."""
    rows = []
    for i in reversed(range(len(chain.alphas_cumprod))):
        here, there = float(chain.alphas_cumprod[i]), float(chain.alphas_cumprod_prev[i])
        a = math.sqrt(max(1 - there, 0.0)) / math.sqrt(1 - here)
        rows.append(Transition(i, a=a, b=math.sqrt(there) - a * math.sqrt(here)))
    return rows


def _noisy(chain: NoiseSchedule, options: Any) -> list[Transition]:
    return [row._replace(s=0.1 * options.eta) for row in _ddim(chain, options)[:-1]] + _ddim(chain, options)[-1:]


def _picky(chain: NoiseSchedule, options: Any) -> list[Transition]:
    if len(chain.betas) < 3:
        raise PlanError("must be at least 3", "steps")
    return _ddim(chain, options)


def _failing(chain: NoiseSchedule, options: Any) -> list[Transition]:
    raise FileNotFoundError("/home/me/secret.txt is missing\nand more")


mine = Sampler(_ddim)
noisy = Sampler(_noisy, most_eta=2.0, spacing="trailing")
picky = Sampler(_picky)
failing = Sampler(_failing)
short = Sampler(lambda chain, options: _ddim(chain, options)[1:])
infinite = Sampler(lambda chain, options: [row._replace(b=math.nan) for row in _ddim(chain, options)])
beside = Sampler(lambda chain, options: [row._replace(level=len(chain.betas)) for row in _ddim(chain, options)])
pairs = Sampler(lambda chain, options: [(0, "a")])  # type: ignore[list-item]


def levels(num_train_timesteps: int, power: float = 1.0) -> NoiseSchedule:
    """ln SNR falls evenly, or as a power of time."""
    times = np.linspace(0, 1, num_train_timesteps) ** power
    return NoiseSchedule.from_alphas_cumprod(1 / (1 + np.exp(-9 + 18 * times)))


def too_short(num_train_timesteps: int) -> NoiseSchedule:
    return NoiseSchedule.linear(num_train_timesteps - 1)
