"""The query parameters of a request for images, with names, bounds and defaults."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, create_model, field_validator

from difuso.model.conditions import MAX_CONDITIONS
from difuso.model.folders.config import PLAN_NAME
from difuso.model.plans.settings import SETTINGS, Settings
from difuso.model.plans.spacing import listed_timesteps

from .conditions import GivenConditions
from .errors import RequestRefused
from .moments import MAX_MOMENTS, MomentName
from .params import MAX_IMAGES, TAG, Seed
from .per_image import ALL
from .values import Frozen

MAX_ADDRESS = 1000  # characters of an address that is called


def _open() -> dict[str, Any]:
    """Returns the fields of the settings, each of which may be left open."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: (Annotated[hint.__origin__ | None, *hint.__metadata__], None) for name, hint in hints.items()}


_Settings: Any = create_model("_Settings", __base__=Frozen, **_open())


class Choices(_Settings):
    """The settings that a request chooses, see `model.plans.settings`; None leaves one open."""

    @property
    def chosen(self) -> dict[str, Any]:
        """Those that are not left open."""
        return {name: value for name in SETTINGS if (value := getattr(self, name)) is not None}

    @property
    def chooses_steps(self) -> bool:
        """Whether the number of steps is chosen, by itself or as the length of a list."""
        return self.chosen.get("steps", listed_timesteps(self.chosen.get("spacing", ""))) is not None


class SamplingQuery(Choices):
    """Query parameters of every kind, as the client sent them; None means the default of the model."""

    n: int | None = Field(
        default=None,
        ge=1,
        le=MAX_IMAGES,
        examples=[4],
        description="number of images; by default 1, or as many as there are seeds, labels or values",
    )
    plan: str | None = Field(
        default=None,
        pattern=PLAN_NAME,
        description="name of one of the model's plans, which then replaces the model's defaults",
    )
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
    conditions: GivenConditions | None = Field(
        default=None,
        alias="condition",
        description="a condition of the model as NAME:VALUE, such as age:33; repeat it for others, and for one value "
        "of each image",
    )
    guide: list[Annotated[str, Field(max_length=64)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CONDITIONS + 1,
        description="name of a condition, or label, that guidance_scale acts on; by default all that may be left out",
    )
    model: str | None = Field(
        default=None,
        max_length=64,
        description="name of the model; by default the first, unless the server has another",
    )
    version: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{12,64}$",
        description="version of the model, at least 12 digits; by default the newest that a worker holds",
    )
    tag: str | None = Field(
        default=None,
        pattern=TAG,
        examples=["poster"],
        description="a word of your own, which the job shows and a list of jobs can be asked for",
    )
    webhook: str | None = Field(
        default=None,
        max_length=MAX_ADDRESS,
        pattern=r"^https?://",
        description="address that the server calls by POST when the job has ended",
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

    @field_validator("seed", "label", "guide", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        """Returns a single value as a list of one, which means the same."""
        return value if value is None or isinstance(value, list | tuple) else [value]

    def request_hash(
        self, kind: str, images: Sequence[str] = (), conditions: Mapping[str, Sequence[Any]] = MappingProxyType({})
    ) -> str:
        """Returns a hash of the request as it was sent, without defaults and the drawn seed.

        It has the SHA-256 of the fitted images, and conditions as a job holds them: one can be written in many ways.
        """
        sent = {"kind": kind, **self.model_dump(exclude_unset=True), "pictures": list(images)}
        sent.pop("condition", None)
        if conditions or self.conditions is not None:
            sent["condition"] = dict(conditions)
        return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()

    def only(self, name: str, value: object, where: str) -> None:
        """Raises RequestRefused unless a parameter is absent or has the only value possible `where`, as in "mode ddim".

        None stands for no possible value.
        """
        if name in self.model_fields_set and getattr(self, name) not in (None, value):
            raise RequestRefused(name, f"Input should be {'omitted' if value is None else value} with {where}")


class ImageQuery(SamplingQuery):
    """Query parameters of every kind that takes images."""

    fit: Literal["cover", "contain"] = Field(
        default="cover", description="how images get the size of the model: cropped, or padded with white"
    )
