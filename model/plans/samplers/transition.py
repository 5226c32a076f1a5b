"""The parts of a sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..schedule import NoiseSchedule

if TYPE_CHECKING:
    from ..settings import Settings  # which imports the samplers

Variance = Literal["fixed_small", "fixed_large", "learned", "learned_range"]

LEAST_ABAR = 1e-6  # the image has a thousandth of the amplitude of the noise


class Transition(NamedTuple):
    """One network call, at a level of the chain, and what follows from it:

    x0 += g gradient;   x' = a x_t + b x0 + e eps + c x0_previous + d x0_before + s exp(v f) z

    Attributes:
        level: index into the chain, where the network is called.
        e: weight of the noise as the network predicted it, untouched by clipping and guidance.
        c, d: weights of the x0 of the call before, and of the one before that.
        s: standard deviation of the noise that is added, where it is not learned.
        v: of a learned deviation: f = (output + 1) / 2 lies between 0 and 1 (learned_range); 0 is not learned.
        g: of classifier guidance with scale 1; the gradient is that of log p(y | x_t). Multiplied by exp(2 v f).
    """

    level: int
    a: float
    b: float
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    s: float = 0.0
    v: float = 0.0
    g: float = 0.0


def eps_guidance(abar: float) -> float:
    """g of all samplers but `ddpm`: eps -= sqrt(1 - abar) gradient (Dhariwal & Nichol 2021, alg. 2), seen from x0.

    Where nothing is left of the image, a classifier knows nothing. The true gradient vanishes there as sqrt(abar)
    does, but the error of a trained classifier does not, and 1 / sqrt(abar) would blow it up.
    """
    return (1 - abar) / math.sqrt(abar) if abar > LEAST_ABAR else 0.0


@dataclass(frozen=True)
class Options:
    """The options of samplers besides their chain; each sampler reads those that concern it.

    Attributes:
        settings: the settings of the run.
        keep_eps: of DDIM; see `Clipping`.
    """

    settings: Settings
    keep_eps: bool = False


@dataclass(frozen=True)
class Sampler:
    """A publication's way through a chain.

    Attributes:
        transitions: from a chain (least noisy level first) to one transition per network call, in their order.
        levels: how many levels a run of so many network calls visits.
        spacing: the spacing that suits it best; None for the model's own.
        most_eta: the largest stochasticity that it can be asked for; 0 if it has none.
        has_variance: whether it uses the variance of ancestral sampling.
        always_noisy: whether it draws noise on its way with any settings.
        from_pure_noise: whether it can begin where nothing is left of the image.
        most_sigma: the noise level above which it does not begin, see `NoiseSchedule.sigmas`.
    """

    transitions: Callable[[NoiseSchedule, Options], list[Transition]]
    levels: Callable[[int], int] = lambda steps: steps
    spacing: str | None = None
    most_eta: float = 0.0
    has_variance: bool = False
    always_noisy: bool = False
    from_pure_noise: bool = True
    most_sigma: float = math.inf
