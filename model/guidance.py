"""Guidance without a classifier: the network's output, moved away from that of a base.

    out' = base + w (out - base)

The base is the output of a weaker network (Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of
Itself", section 4), or else of the network without label (Ho & Salimans 2022, eq. 6). Where w is 1 the base is not
called. With much noise guidance loses variety, and with little noise it has nothing to do. So w may be the
scale on an interval of noise levels only (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves
Sample and Distribution Quality in Diffusion Models"):

    w(sigma) = scale  where low < sigma <= high,  else 1          sigma = sqrt((1 - abar) / abar)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PlanError

MOST_SIGMA = 1e6  # above the noise of any schedule that leaves something of the image; as `high` it means no limit
ROUNDING = 1e-9  # relative tolerance, so that the sigma of a level names that level


@dataclass(frozen=True)
class Guidance:
    """The scale of guidance without a classifier, and the noise levels where it acts.

    Attributes:
        scale: w, from 0; 1 is off.
        low, high: the ends of the interval of sigma where it acts, which excludes `low` and includes `high`, each from
            0 to MOST_SIGMA; None for an end that is open.

    Raises PlanError if the interval is empty, or an end lies outside its range.
    """

    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name, end in (("guidance_low", self.low), ("guidance_high", self.high)):
            if end is not None and not 0 <= end <= MOST_SIGMA:  # NaN, too
                raise PlanError(f"must lie between 0 and {MOST_SIGMA:g}", name, got=end)
        if self.high is not None and not (self.low or 0.0) < self.high:
            raise PlanError(f"must be greater than guidance_low, {self.low or 0:g}", "guidance_high", got=self.high)

    def __str__(self) -> str:
        ends = (("above", self.low), ("to", self.high))
        return " ".join([f"{self.scale:g}", *(f"{where} {end:g}" for where, end in ends if end is not None)])

    @property
    def settings(self) -> dict[str, Any]:
        """The attributes as the settings of a run name them."""
        return {"guidance_scale": self.scale, "guidance_low": self.low, "guidance_high": self.high}

    @property
    def limited(self) -> bool:
        """Whether the guidance is off at some noise levels."""
        return self.scale != 1.0 and (self.low is not None or self.high is not None)

    def weights(self, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns w at noise levels, shape of `sigmas`, which may hold infinity."""
        sigmas = np.minimum(sigmas, MOST_SIGMA)
        low, high = (-np.inf if self.low is None else self.low), (np.inf if self.high is None else self.high)
        acts = (sigmas > low * (1 + ROUNDING)) & (sigmas <= high * (1 + ROUNDING))
        return np.where(acts, self.scale, 1.0)


UNGUIDED = Guidance()


def guided_output(out: Any, base: Any, scale: Any) -> Any:
    """Returns base + scale (out - base), of tensors, arrays or numbers of one shape; `out` lacks a learned variance."""
    return base + scale * (out - base)
