"""The parts of a sampler."""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple

from ..schedule import NoiseSchedule
from ..settings import Settings
from . import Sampler

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


def transitions(sampler: Sampler, chain: NoiseSchedule, options: Options) -> list[Transition]:
    """Returns a sampler's way through a chain (least noisy level first): one transition per network call, in order."""
    module = import_module(f"{__package__}.{sampler.module}")
    found: list[Transition] = getattr(module, sampler.module)(chain, options)
    return found
