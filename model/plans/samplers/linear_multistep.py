"""Linear multistep solvers, whose steps extrapolate the noise eps from the calls before: lms, plms, ipndm and deis.

With y = x / alpha the probability flow is dy/dsigma = eps (Karras et al. 2022, eq. 1), so a step is a sum over the
last calls:

    y' = y + sum_j w_j eps_j
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..schedule import FloatTable, NoiseSchedule
from .transition import LAST, Options, Transition

# Exact to rounding for polynomials, and for those of ln sigma over any step that a schedule has.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
# Adams-Bashforth on an even grid, by order: what each call, the last one first, weighs in the slope of the step.
EVEN: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def lms(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """w_j is the integral over the step of the polynomial in sigma that is 1 at call j and 0 at the others.

    Adams-Bashforth of fourth order on an uneven grid, as k-diffusion's `sample_lms` has it: Hairer et al. 1993,
    "Solving Ordinary Differential Equations I", section III.5. The first steps have the order that their calls allow.
    """
    sigmas, rows = chain.sigmas, []
    for i in reversed(range(chain.num_train_timesteps)):
        known = sigmas[i : i + 4]
        rows.append(_row(chain, i, _integrals(known, _next(sigmas, i), np.ones_like)))
    return rows


def deis(chain: NoiseSchedule, options: Options, *, order: int = 2) -> list[Transition]:
    """w_j is the integral over the step of the polynomial in ln sigma that is 1 at call j and 0 at the others.

    DEIS in the form "rho AB" with polynomials of ln rho (Zhang & Chen 2023, eq. 15, and the authors' code). The last
    step ends at sigma = 0, where x' = x0.
    """
    sigmas, rows = chain.sigmas, []
    for i in range(chain.num_train_timesteps - 1, 0, -1):
        known = np.log(sigmas[i : i + order])
        rows.append(_row(chain, i, _integrals(known, math.log(sigmas[i - 1]), np.exp)))
    return [*rows, LAST]


def plms(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """w_j is the whole step, sigma' - sigma, times the weight that call j has on an even grid (`EVEN`).

    F-PNDM (Liu et al. 2022, eq. 12 and 13), begun as in latent-diffusion's PLMS: the first step is Euler's, and a
    second call at its end makes it Heun's. Of that call nothing is remembered. A run of two calls does without it.
    """
    sigmas, rows = chain.sigmas, []
    noisiest = chain.num_train_timesteps - 1
    for i in reversed(range(chain.num_train_timesteps)):
        rows.append(_even(chain, i))
        if i == noisiest > 0 and not (i == 1 and options.even):
            # The start of the step cancels, as for `heun`.
            step = sigmas[i - 1] - sigmas[i]
            rows.append(_row(chain, i - 1, [step / 2, -step / 2], to=i - 1)._replace(keep=(0.0, 0.0)))
    return rows


def ipndm(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """`plms` without the second call of its first step, as v-diffusion and diffusers have it.

    Where nothing is left of the image, x_t is the noise, and the step from there leaves x0 out.
    """
    last = chain.num_train_timesteps - 1
    rows = [_even(chain, i) for i in reversed(range(last + 1)) if chain.alphas_cumprod[i]]
    start = Transition(last, a=math.sqrt(1 - chain.alphas_cumprod_prev[last]), b=0.0, keep=(1.0, 0.0))
    return rows if chain.alphas_cumprod[last] else [start, *rows]


def _even(chain: NoiseSchedule, i: int) -> Transition:
    """Returns the row of the call at level i, as the calls before it were on an even grid."""
    step = _next(chain.sigmas, i) - chain.sigmas[i]
    return _row(chain, i, [step * weight for weight in EVEN[min(chain.num_train_timesteps - i, 4)]])


def _next(sigmas: FloatTable, i: int) -> float:
    return float(sigmas[i - 1]) if i else 0.0


def _integrals(known: FloatTable, to: float, slope: Callable[[FloatTable], FloatTable]) -> list[float]:
    """Returns the integral in sigma, from the first of the known places to another, of each Lagrange polynomial.

    Args:
        known: the places u of the calls, the last call first.
        slope: the derivative of sigma at places u.
    """
    half = (to - known[0]) / 2
    u = known[0] + half * (NODES + 1)
    integrals = []
    for j, own in enumerate(known):
        others = np.delete(known, j)
        polynomial = np.prod((u[:, None] - others) / (own - others), axis=1)
        integrals.append(float(half * (WEIGHTS * slope(u) * polynomial).sum()))
    return integrals


def _row(chain: NoiseSchedule, i: int, weights: Sequence[float], *, to: int | None = None) -> Transition:
    """Returns the row of a call at level i, whose step ends at level `to`, or at the next one; it remembers eps."""
    alpha, spread = math.sqrt(chain.alphas_cumprod[i]), math.sqrt(1 - chain.alphas_cumprod[i])
    end = i - 1 if to is None else to
    signal = math.sqrt(chain.alphas_cumprod[end]) if end >= 0 else 1.0
    own, c, d, h = [signal * weight for weight in weights] + [0.0] * (4 - len(weights))
    keep = 1 / spread, -alpha / spread  # eps = (x_t - alpha x0) / spread
    return Transition(i, a=signal / alpha + own * keep[0], b=own * keep[1], c=c, d=d, h=h, keep=keep)
