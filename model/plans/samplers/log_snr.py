"""Levels as the exponential integrators see them: alpha, sigma and half the logarithm of the signal-to-noise ratio."""

import math
from typing import NamedTuple

from ..schedule import NoiseSchedule


class LogSnr(NamedTuple):
    """The levels of a chain, least noisy first."""

    # alpha, sigma: x_t = alpha x_0 + sigma eps
    alpha: list[float]
    sigma: list[float]
    lam: list[float]  # lambda = ln(alpha / sigma); minus infinity where nothing is left of the image

    def order(self, level: int, highest: int) -> int:
        """Returns the order of the step that leaves a level: one more than the calls before it that tell a slope.

        It is at most one more than the calls that follow, as the last steps are the longest in lambda.
        """
        before = sum(math.isfinite(lam) for lam in self.lam[level + 1 : level + highest])
        return min(highest, before + 1, level + 1)


def log_snr(chain: NoiseSchedule) -> LogSnr:
    """Returns the levels of a chain."""
    alpha = [math.sqrt(abar) for abar in chain.alphas_cumprod]
    sigma = [math.sqrt(1 - abar) for abar in chain.alphas_cumprod]
    lam = [math.log(a / s) if a else -math.inf for a, s in zip(alpha, sigma, strict=True)]
    return LogSnr(alpha, sigma, lam)
