"""The parts of a sampler: transitions, options, and the levels of a chain as exponential integrators see them."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..schedule import NoiseSchedule

Variance = Literal["fixed_small", "fixed_large", "learned", "learned_range"]

LEAST_ABAR = 1e-6  # the image has a thousandth of the amplitude of the noise


class Transition(NamedTuple):
    """One network call, at a level of the chain, and what follows from it:

    x0 += g gradient;   x' = a x_t + b x0 + e eps + c kept_1 + d kept_2 + h kept_3 + s exp(v f) z

    Then k_x x_t + k_x0 x0 is kept, with keep = (k_x, k_x0): by default x0. A row with keep = (0, 0) keeps nothing.
    """

    level: int  # index into the chain, where the network is called
    a: float
    b: float
    # c, d, h: weights of what was kept last, of what was kept before that, and of what was kept first
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0  # weight of the noise as the network predicted it, untouched by clipping and guidance
    s: float = 0.0  # standard deviation of the noise that is added, where it is not learned
    # of a learned deviation: f = (output + 1) / 2 lies between 0 and 1 (learned_range); 0 is not learned
    v: float = 0.0
    # of classifier guidance with scale 1; the gradient is that of log p(y | x_t). Multiplied by exp(2 v f). None
    # means that of `eps_guidance`
    g: float | None = None
    h: float = 0.0
    keep: tuple[float, float] = (0.0, 1.0)


LAST = Transition(0, a=0.0, b=1.0)  # to sigma = 0, where x' = x0


@dataclass(frozen=True)
class Options:
    """The options of samplers besides their chain; each sampler reads those that concern it."""

    eta: float = 0.0
    variance: Variance = "fixed_small"
    keep_eps: bool = False  # of DDIM; see `Clipping`
    even: bool = False  # of Heun's method: whether the run has an even number of network calls


def eps_guidance(abar: float) -> float:
    """g of all samplers but `ddpm`: eps -= sqrt(1 - abar) gradient (Dhariwal & Nichol 2021, alg. 2), seen from x0.

    Where nothing is left of the image, a classifier knows nothing. The true gradient vanishes there as sqrt(abar)
    does, but the error of a trained classifier does not, and 1 / sqrt(abar) would blow it up.
    """
    return (1 - abar) / math.sqrt(abar) if abar > LEAST_ABAR else 0.0


class LogSnr(NamedTuple):
    """The levels of a chain, least noisy first."""

    # alpha, sigma: x_t = alpha x_0 + sigma eps
    alpha: list[float]
    sigma: list[float]
    lam: list[float]  # lambda = ln(alpha / sigma); minus infinity where nothing is left of the image

    def order(self, level: int, highest: int) -> int:
        """Returns the order of the step that leaves a level: one more than the calls before it that give a slope."""
        return 1 + sum(map(math.isfinite, self.lam[level + 1 : level + highest]))


def log_snr(chain: NoiseSchedule) -> LogSnr:
    """Returns the levels of a chain."""
    alpha = [math.sqrt(abar) for abar in chain.alphas_cumprod]
    sigma = [math.sqrt(1 - abar) for abar in chain.alphas_cumprod]
    lam = [math.log(a / s) if a else -math.inf for a, s in zip(alpha, sigma, strict=True)]
    return LogSnr(alpha, sigma, lam)
