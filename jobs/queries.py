"""What a request for images may say in its query, by name, bound and default."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from model.bounds import PLAN_NAME
from model.plans.clipping import ClipMode
from model.plans.samplers import Variance
from model.plans.spacing import RULES

from .errors import RequestRefused
from .moments import MAX_MOMENTS, MomentName
from .params import MAX_IMAGES, TAG, Eta, SamplerName, Seed, Sigma, SpacingName
from .per_image import ALL
from .values import Frozen


class SamplingQuery(Frozen):
    """Query parameters of every kind, as the client sent them; None means the default of the model."""

    n: int | None = Field(
        default=None,
        ge=1,
        le=MAX_IMAGES,
        examples=[4],
        description="number of images; by default 1, or as many as there are seeds or labels",
    )
    steps: int | None = Field(
        default=None, ge=1, examples=[50], description="network calls for each image, at most the model's T"
    )
    sampler: SamplerName | None = Field(default=None, description="sampler; by default the model's")
    plan: str | None = Field(
        default=None,
        pattern=f"^{PLAN_NAME}$",
        description="name of one of the model's plans, which then replaces the model's defaults",
    )
    spacing: SpacingName | None = Field(
        default=None,
        examples=list(RULES),
        description=f"choice of the timesteps: {', '.join(RULES)}, the numbers of steps in equal sections, such as "
        "90,60,60,20,20, or a list, such as at:12.5,160,999",
    )
    eta: Eta | None = Field(default=None, description="stochasticity: up to 1 for ddim, 10 for dpmpp, 0 for the others")
    variance: Variance | None = Field(default=None, description="variance of the noise of each step; ddpm only")
    clip: ClipMode | None = Field(default=None, description="clipping of the predicted image at each step")
    seed: list[Seed] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IMAGES,
        examples=[[7]],
        description="seed of image 0, where image i has seed + i; repeat it for one image of each seed",
    )
    label: list[Annotated[str, Field(max_length=100)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IMAGES,
        description=f"class, by name or index; repeat it for one image of each, or say {ALL} for the classes in turn",
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="scale of guidance by a weaker network, or without one classifier-free, which needs a label; 1 is "
        "off",
    )
    guidance_low: Sigma | None = Field(
        default=None,
        description="noise level, as sigma, above which guidance_scale acts; by default the model's, or 0",
    )
    guidance_high: Sigma | None = Field(
        default=None,
        description="noise level, as sigma, up to which guidance_scale acts; by default the model's, or 1000000, "
        "which is no limit",
    )
    classifier_scale: float | None = Field(
        default=None, ge=0, le=100, description="scale of guidance by the model's classifier; 0 is off; needs a label"
    )
    model: str | None = Field(
        default=None,
        max_length=64,
        description="name of the model; by default the first, unless the server has another",
    )
    tag: str | None = Field(
        default=None,
        pattern=TAG,
        examples=["poster"],
        description="a word of your own, which the job shows and a list of jobs can be asked for",
    )
    bits: Literal["8", "16"] = Field(
        default="8", description="bits of each pixel in the answer; 16 is for models whose images are not RGB"
    )
    trace: list[MomentName] = Field(
        default=[],
        max_length=MAX_MOMENTS,
        examples=[["last"], ["1", "last"]],
        description="network calls whose x_t and x0 are kept as floats: by number, last or all; may be repeated",
    )

    @field_validator("seed", "label", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        """Returns a single value as a list of one, which means the same."""
        return value if value is None or isinstance(value, list | tuple) else [value]

    def request_hash(self, kind: str, images: Sequence[str] = ()) -> str:
        """Returns a hash of the request as it was sent, without defaults and the drawn seed.

        Args:
            kind: the name of the kind of job.
            images: the SHA-256 of each fitted image of the request.
        """
        sent = {"kind": kind, **self.model_dump(exclude_unset=True), "pictures": list(images)}
        for name in ("seed", "label"):  # a single one counts as it did before there were lists
            if len(sent.get(name) or ()) == 1:
                (sent[name],) = sent[name]
        return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()

    def only(self, name: str, value: object, where: str) -> None:
        """Returns if a parameter is absent or has the only value that is possible here.

        Args:
            name: the name of the parameter.
            value: its only possible value; None if there is none.
            where: the place where this is so, for the message: "mode ddim".

        Raises:
            RequestRefused: if it has another value.
        """
        if name in self.model_fields_set and getattr(self, name) not in (None, value):
            raise RequestRefused(name, f"Should be {'omitted' if value is None else value} with {where}")


class ImageQuery(SamplingQuery):
    """Query parameters of every kind that takes images."""

    fit: Literal["cover", "contain"] = Field(
        default="cover", description="how images get the size of the model: cropped, or padded with white"
    )
