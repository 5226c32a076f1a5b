"""Interpolating between two images (Ho et al. 2020, section 4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..catalog import ModelInfo
from ..errors import RequestRefused
from ..images.fitting import FittedImage, fit
from ..params import MAX_IMAGES, MAX_TIMESTEP, SamplingParams, Seed
from .base import Fit, ImageQuery, Kind, Prepared, Task, fill_in

STRENGTH = 0.5  # the default part of T to which both are noised: Ho et al. 2020, figure 8


class InterpolateQuery(ImageQuery):
    """Query parameters of /interpolate."""

    n: int | None = Field(default=None, ge=1, le=MAX_IMAGES, description="number of lambdas; may be omitted")
    seed: list[Seed] | None = Field(
        default=None, min_length=1, max_length=1, examples=[[7]], description="seed of all images"
    )
    shares: list[float] = Field(
        default=[0.5],
        alias="lambda",
        min_length=1,
        max_length=MAX_IMAGES,
        examples=[[0.25, 0.5, 0.75]],
        description="share of the second image, 0 to 1; repeat it for several images",
    )
    t: int | None = Field(default=None, ge=0, description="timestep to which both images are noised or inverted")
    mode: Literal["ddpm", "ddim"] = Field(default="ddpm", description="noise and mix, or invert and follow the arc")
    noise: Literal["shared", "independent", "rescaled"] = Field(
        default="shared", description="noise of both images; ddpm only"
    )


class Interpolation(Task):
    """Interpolating between two images.

    Attributes:
        shares: the share of the second image in each image of the result, 0..1.
        depth: the timestep to which both images are noised or inverted.
        mode: `ddpm` noises both images, mixes them, and runs the reverse chain; `ddim` inverts both, follows the arc
            between them, and decodes.
        noise: the noise of `ddpm`: `shared` by both; `independent`, whose mixture has too small a variance; `rescaled`,
            independent with the variance corrected.
    """

    kind: Literal["interpolate"] = "interpolate"
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(min_length=1, max_length=MAX_IMAGES)
    depth: int = Field(ge=0, le=MAX_TIMESTEP)
    mode: Literal["ddpm", "ddim"] = "ddpm"
    noise: Literal["shared", "independent", "rescaled"] = "shared"
    lies_between_its_images: ClassVar[bool] = True

    def image_steps(self, params: SamplingParams) -> int:
        """Returns the work of the job; each inversion counts as one image more, without guidance by a classifier."""
        inverted = 2 if self.mode == "ddim" else 0
        return params.image_steps + inverted * params.steps * (1 + (params.guidance_scale != 1.0))

    def seed(self, params: SamplingParams, index: int) -> int:
        """Returns the seed of all images, which is the same so that they change smoothly."""
        return params.seed_of(0)

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        return {**super().facts(params, index, images), "shares": [self.shares[index]]}

    def file_stem(self, params: SamplingParams, index: int) -> str:
        return f"{self.seed_and_class(params, index)}-{self.shares[index]:g}"


def complete(query: InterpolateQuery, model: ModelInfo, images: Mapping[str, FittedImage]) -> Prepared:
    count, timesteps = len(query.shares), model.schedule.num_train_timesteps
    if not all(0 <= share <= 1 for share in query.shares):
        raise RequestRefused("lambda", "Should lie between 0 and 1")
    if query.n not in (None, count):
        raise RequestRefused("n", f"Should be the number of lambdas, {count}")
    if len(query.label or ()) not in (0, 1, count):
        raise RequestRefused("label", f"Should be one, or one for each of the {count} lambdas")
    depth = max(0, round(STRENGTH * timesteps) - 1) if query.mode == "ddpm" else timesteps - 1
    if query.t is not None:
        depth = query.t
    if depth >= timesteps:
        raise RequestRefused("t", f"Should be at most {timesteps - 1}")
    chosen: dict[str, object] = {"n": count}
    if query.mode == "ddim":
        query.only("sampler", "ddim", "mode ddim")
        query.only("eta", 0.0, "mode ddim")
        chosen |= {"sampler": "ddim", "eta": 0.0}
    params = fill_in(query.model_copy(update=chosen), model, start=depth)
    if query.mode == "ddim" and isinstance(params.label, tuple):
        raise RequestRefused("label", "Should be one with mode ddim: both images are inverted with it")
    task = Interpolation(shares=tuple(query.shares), depth=depth, mode=query.mode, noise=query.noise)
    return Prepared(params, task, tuple(images[name] for name in KIND.required if name in images))  # in this order


def fits(query: InterpolateQuery, model: ModelInfo) -> dict[str, Fit]:
    KIND.prepare(query, model, {})
    config = model.config
    return dict.fromkeys(KIND.required, partial(fit, size=config.image_size, channels=config.channels, how=query.fit))


KIND = Kind(
    "interpolate",
    "Interpolate between two images",
    InterpolateQuery,
    Interpolation,
    complete,
    fits,
    required=("image_a", "image_b"),
    description="With several `lambda` the answer is a strip from one image to the other, or an animation with "
    "`Accept: image/apng`.",
    implied=("n",),
)
