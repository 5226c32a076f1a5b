"""Generating images from noise, which another model may enlarge."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import Field

from ..cascade import Enlarging, enlarging
from ..catalog import Catalog, ModelInfo
from ..defaults import fill_in, fill_in_conditions
from ..errors import RequestRefused
from ..images.noise import fit_noise, noises_in
from ..params import SamplingParams
from ..queries import SamplingQuery
from .base import Fit, Images, Kind, Prepared, Task


class GenerateQuery(SamplingQuery):
    """Query parameters of /generate."""

    upscale: str | None = Field(
        default=None, max_length=64, description="name of a model that enlarges the images, as /upscale does"
    )
    upscale_steps: int | None = Field(
        default=None, ge=1, description="network calls of that model for each image; by default its own"
    )
    upscale_augmentation: float | None = Field(
        default=None, ge=0, le=1, description="noise that is added to the images first; by default that model's"
    )


class Generation(Task):
    """Generating images from noise.

    Attributes:
        upscale: how another model enlarges them; None if none does.
    """

    kind: Literal["generate"] = "generate"
    upscale: Enlarging | None = None

    @property
    def has_parameters(self) -> bool:
        return self.upscale is not None

    @property
    def second_stage(self) -> Enlarging | None:
        return self.upscale

    def image_steps(self, params: SamplingParams, guided_steps: int | None = None) -> int:
        enlarging = params.n * self.upscale.image_steps if self.upscale else 0
        return super().image_steps(params, guided_steps) + enlarging

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        cascade = {"kind": self.kind, "upscale": self.upscale.facts} if self.upscale else {}
        return {**cascade, "pictures": [images[index % len(images)]]} if images else cascade

    def file_stem(self, params: SamplingParams, index: int) -> str:
        return self.seed_and_class(params, index)


def choose(query: GenerateQuery, catalog: Catalog) -> ModelInfo:
    """Returns the model of a request, with the one that enlarges its images if there is one."""
    model = catalog.choose(query.model, version=query.version)
    if query.upscale is None:
        return model
    return replace(model, upscaler=catalog.choose(query.upscale, enlarging=True, parameter="upscale"))


def complete(query: GenerateQuery, model: ModelInfo, images: Images) -> Prepared:
    noises = noises_in(images["noise"]) if "noise" in images else ()
    params, plan = fill_in(query, model, noises=len(noises), with_examples=True)
    whole = fill_in_conditions(params, model.config)
    filled_in = frozenset(whole.conditions).difference(params.conditions)
    return Prepared(whole, Generation(upscale=_upscale(query, model)), noises, plan=plan, filled_in=filled_in)


def fits(query: GenerateQuery, model: ModelInfo) -> dict[str, Fit]:
    """Returns the fit of the noise x_T, in which the images begin that are not drawn from the noise of their seeds."""
    return {"noise": partial(fit_noise, shape=model.config.shape)}


def _upscale(query: GenerateQuery, model: ModelInfo) -> Enlarging | None:
    if model.upscaler is None:
        for name in ("upscale_steps", "upscale_augmentation"):
            if getattr(query, name) is not None:
                raise RequestRefused(name, "This needs upscale, the name of a model that enlarges")
        return None
    if query.trace:
        raise RequestRefused("trace", "Input should be omitted with upscale")
    return enlarging(
        model, model.upscaler, steps=query.upscale_steps, augmentation=query.upscale_augmentation, prefix="upscale"
    )


KIND = Kind(
    "generate",
    "Generate images",
    GenerateQuery,
    Generation,
    complete,
    fits,
    choose=choose,
    optional=("noise",),
    needless=frozenset({"noise"}),
    description="A part `noise` is x_T, a .npy file of float32, for all images or for each.",
    command="sample",
)
