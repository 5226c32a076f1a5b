"""An image without its noise, or drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field

from model.plans.noise_level import GREY_LEVEL, noise_level

from ..catalog import ModelInfo
from ..errors import RequestRefused
from ..images.fitting import FittedImage, fit
from ..images.noise_estimate import estimate_sigma
from ..params import MAX_TIMESTEP, SamplingParams
from .base import Fit, ImageQuery, Kind, Prepared, Task, fill_in

MAX_SIGMA = 25_500.0  # a hundred times the range of an image


class DenoiseQuery(ImageQuery):
    """Of /denoise."""

    sigma: float | None = Field(default=None, ge=0, le=MAX_SIGMA, description="of the noise, in grey levels of 0..255")
    t: int | None = Field(default=None, ge=0, description="the timestep that is as noisy as the image, instead")
    strength: float | None = Field(
        default=None, gt=0, le=1, description="draw a clean image anew, from so far into the noise, instead"
    )
    mode: Literal["sample", "mmse"] = Field(default="sample", description="run the chain, or guess at once")
    average: bool = Field(default=False, description="answer with the mean of the n samples")


class Denoising(Task):
    """The image that was sent without its noise, or drawn anew.

    Attributes:
        sigma: of the noise in it, in grey levels of 0..255; None if it is clean and drawn anew (Meng et al. 2022).
        estimated: whether sigma was measured in the image rather than given.
        depth: timestep at which it enters the reverse process.
        mode: `sample` runs the reverse chain; `mmse` takes the network's guess at once, smooth and closest on average.
        average: answer with the mean of the n samples, which comes closer to `mmse` the more there are.
    """

    kind: Literal["denoise"] = "denoise"
    sigma: float | None = Field(default=None, ge=0, le=MAX_SIGMA)
    estimated: bool = False
    depth: int = Field(ge=0, le=MAX_TIMESTEP)
    mode: Literal["sample", "mmse"] = "sample"
    average: bool = False

    def answers(self, params: SamplingParams) -> int:
        return 1 if self.average else params.n

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        return {**super().facts(params, index, images), **({"n": params.n} if self.average else {})}


def prepare(query: DenoiseQuery, model: ModelInfo, images: Mapping[str, FittedImage]) -> Prepared:
    given = [name for name in ("sigma", "t", "strength") if getattr(query, name) is not None]
    if len(given) > 1:
        raise RequestRefused(given[1], f"Cannot go with {given[0]}")
    sigma = query.sigma
    if not given:
        sigma = estimate_sigma(images["image"].png)
    depth, sigma = _entry(query, model, sigma)
    task = Denoising(sigma=sigma, estimated=not given, depth=depth, mode=query.mode, average=query.average)
    if task.estimated and query.steps is not None:  # nobody could know how many there are from an unknown depth
        query = query.model_copy(update={"steps": min(query.steps, depth + 1)})
    return Prepared(_params(query, model, task), task, tuple(images.values()))


def fits(query: DenoiseQuery, model: ModelInfo) -> dict[str, Fit]:
    if (query.sigma, query.t, query.strength) != (None, None, None):
        prepare(query, model, {})
    config = model.config
    return {"image": partial(fit, size=config.image_size, channels=config.channels, how=query.fit)}


def _entry(query: DenoiseQuery, model: ModelInfo, sigma: float | None) -> tuple[int, float | None]:
    """Where the image enters the reverse process, and how noisy it is; None if it is clean and is to be noised."""
    timesteps = model.schedule.num_train_timesteps
    if query.strength is not None:
        return max(0, round(query.strength * timesteps) - 1), None
    if query.t is None:
        assert sigma is not None
        return noise_level(model.schedule, sigma * GREY_LEVEL).timestep, sigma
    if query.t >= timesteps:
        raise RequestRefused("t", f"Should be at most {timesteps - 1}")
    sigma = float(model.schedule.sigmas[query.t]) / GREY_LEVEL
    if sigma > MAX_SIGMA:
        raise RequestRefused("t", f"{model.name} leaves nothing of an image there")
    return query.t, sigma


def _params(query: DenoiseQuery, model: ModelInfo, task: Denoising) -> SamplingParams:
    if task.mode == "sample":
        return fill_in(query, model, start=task.depth)
    if task.sigma is None:
        raise RequestRefused("mode", "mmse removes noise, and a clean image has none")
    for name, only in (("n", 1), ("steps", 1), ("sampler", "ddim")):
        query.only(name, only, "mode mmse")
    return fill_in(query.model_copy(update={"steps": 1, "sampler": "ddim", "eta": 0.0}), model, start=task.depth)


KIND = Kind(
    "denoise",
    "An image without its noise, or drawn anew",
    DenoiseQuery,
    Denoising,
    prepare,
    fits,
    required=("image",),
    description="Without `sigma`, `t` and `strength` the noise is estimated; the job says how much was found.",
)
