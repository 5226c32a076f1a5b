"""What a sampler is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..schedule import NoiseSchedule


class Transition(NamedTuple):
    """x' = a x_t + b x0 + c x0_previous + s z, with x0_previous the prediction of the call before."""

    a: float
    b: float
    c: float = 0.0
    s: float = 0.0


class Sampler(Protocol):
    """Returns one transition per timestep of the chain, in the chain's order (least noisy first)."""

    def __call__(self, chain: NoiseSchedule, *, eta: float, variance: str) -> list[Transition]: ...
