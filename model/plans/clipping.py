"""Clipping: keeps the predicted x0 inside the range of images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from ..errors import PlanError

ClipMode = Literal["none", "static", "dynamic"]


@dataclass(frozen=True)
class Clipping:
    """The clipping of x0, and of the noise predicted with it; raises PlanError for other modes, or without a bound."""

    # `static` clamps x0 to [-bound, bound]; `dynamic` takes s = the quantile of |x0| over one image, at least 1 and at
    # most bound, clamps to [-s, s] and divides by s (Saharia et al. 2022, section 2.3).
    mode: ClipMode = "static"
    # the largest |x0|, where images lie in [-1, 1]; None for no limit, with `dynamic` only
    bound: Annotated[float | None, Field(ge=1e-3, le=1e30)] = 1.0
    quantile: Annotated[float, Field(ge=1e-3, le=1)] = 0.995  # the quantile of `dynamic`
    # whether DDIM keeps the noise that the network predicted, as diffusers does. If not, it derives the noise again
    # from x_t and the clipped x0, as guided-diffusion does. Without clipping the two are the same.
    keep_eps: bool = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(ClipMode):
            raise PlanError(f"unknown clip mode {self.mode!r}: choose one of {', '.join(get_args(ClipMode))}")
        if self.bound is None and self.mode == "static":
            raise PlanError("static clipping needs a bound")

    def with_mode(self, mode: ClipMode | None) -> Clipping:
        """Returns the default clipping of another mode with this keep_eps; itself if the mode is the same or None."""
        if mode in (None, self.mode):
            return self
        return Clipping(mode, bound=1.0 if mode == "static" else None, keep_eps=self.keep_eps)

    @property
    def columns(self) -> tuple[float, float]:
        """The columns CLIP and QUANTILE of a plan's rows: the largest threshold, and the quantile or 0."""
        if self.mode == "none":
            return math.inf, 0.0
        bound = math.inf if self.bound is None else self.bound
        return bound, self.quantile if self.mode == "dynamic" else 0.0
