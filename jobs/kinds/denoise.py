"""Removing the noise of an image, or redrawing a clean image."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from difuso.model.plans.noise_level import GREY_LEVEL, noise_level

from ..catalog import ModelInfo
from ..defaults import Filled, fill_in
from ..errors import RequestRefused
from ..images.noise_estimate import estimate_sigma
from ..nearest import least_depth
from ..params import MAX_TIMESTEP, SamplingParams
from ..queries import ImageQuery
from .base import FromPicture, Images, Kind, Prepared, probes_for

MAX_SIGMA = 25_500.0  # grey levels; a hundred times the range of an image


class DenoiseQuery(ImageQuery):
    """Query parameters of /denoise."""

    sigma: float | None = Field(
        default=None,
        ge=0,
        le=MAX_SIGMA,
        examples=[25.0],
        description="standard deviation of the noise, in grey levels of 0..255",
    )
    t: int | None = Field(default=None, ge=0, description="instead of sigma: the timestep with the noise of the image")
    strength: float | None = Field(
        default=None, gt=0, le=1, description="instead of sigma: the image is clean, and redrawn from this part of T"
    )
    mode: Literal["sample", "mmse"] = Field(default="sample", description="run the reverse chain, or estimate at once")
    average: bool = Field(default=False, description="return the mean of the n samples")


class Denoising(FromPicture):
    """Removing the noise of an image, or redrawing a clean image.

    Attributes:
        sigma: as in the query; None if the image is clean, and is noised and redrawn (Meng et al. 2022).
        estimated: whether sigma was estimated rather than given.
        depth: the timestep at which the image enters the reverse process.
        mode: `sample` runs the reverse chain; `mmse` takes the first prediction x̂_0, smooth and closest on average.
        average: whether the result is the mean of the n samples, which approaches `mmse` as n grows.
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
        of_mean = params.model_dump(include={"n", "seed", "label", "conditions"}) if self.average else {}
        return {**super().facts(params, index, images), **of_mean}


def complete(query: DenoiseQuery, model: ModelInfo, images: Images) -> Prepared:
    given = [name for name in ("sigma", "t", "strength") if getattr(query, name) is not None]
    if len(given) > 1:
        raise RequestRefused(given[1], f"Input cannot be combined with {given[0]}")
    sigma = query.sigma if given else estimate_sigma(images["image"].file, planes=model.config.shape.planes)
    depth, sigma = _entry(query, model, sigma)
    # The expectation of `mmse` is over all conditions.
    is_open = sigma is None and depth >= least_depth(model.schedule)
    probes = probes_for(query, model, images) if is_open else 0
    own = query.model_dump(include={"mode", "average"})
    task = Denoising(sigma=sigma, estimated=not given, depth=depth, probes=probes, **own)
    if task.estimated and (steps := query.chosen.get("steps")):  # the client could not know the depth, and so the most
        query = query.model_copy(update={"steps": min(steps, depth + 1)})
    params, plan = _filled(query, model, task)
    return Prepared(params, task, plan=plan)


def _entry(query: DenoiseQuery, model: ModelInfo, sigma: float | None) -> tuple[int, float | None]:
    """Returns the timestep at which the image enters the reverse process, and its sigma; None if the image is clean."""
    timesteps = model.schedule.num_train_timesteps
    if query.strength is not None:
        return max(0, round(query.strength * timesteps) - 1), None
    if query.t is None:
        assert sigma is not None
        return noise_level(model.schedule, sigma * GREY_LEVEL).timestep, sigma
    if query.t >= timesteps:
        raise RequestRefused("t", f"Input should be at most {timesteps - 1}")
    sigma = float(model.schedule.sigmas[query.t]) / GREY_LEVEL
    if sigma > MAX_SIGMA:
        raise RequestRefused("t", f"Input should be smaller: there {model.name} has a sigma above {MAX_SIGMA:g}")
    return query.t, sigma


def _filled(query: DenoiseQuery, model: ModelInfo, task: Denoising) -> Filled:
    if task.mode == "sample":
        return fill_in(query, model, start=task.depth, with_examples=task.probes > 0)
    if task.sigma is None:
        raise RequestRefused("mode", "Input should be sample with strength: a clean image has no noise to remove")
    for name, only in (("n", 1), ("steps", 1), ("sampler", "ddim"), ("plan", None)):
        query.only(name, only, "mode mmse")
    filled = fill_in(query.model_copy(update={"steps": 1, "sampler": "ddim", "eta": 0.0}), model, start=task.depth)
    if filled.params.n > 1:
        several = next(
            (name for name in ("seed", "label") if isinstance(getattr(filled.params, name), tuple)), "condition"
        )
        raise RequestRefused(several, "Input should be one with mode mmse, which makes one image")
    return filled


KIND = Kind(
    "denoise",
    "Denoise an image, or redraw it",
    DenoiseQuery,
    Denoising,
    complete,
    required=("image",),
    description="Without `sigma`, `t` and `strength` the noise is estimated; the job shows the estimate.",
)
