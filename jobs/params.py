"""The sampling parameters that every kind of job has. Which values there are, the science says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from model.plans.clipping import ClipMode
from model.plans.samplers import SAMPLERS, Variance
from model.plans.settings import Choices
from model.plans.spacing import RULES

from .values import Frozen

# Types for the reader of a request; mypy, which knows no registry, takes the names for plain text.
if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]

# A rule's name, or how many steps each of as many equal parts of the timesteps gets.
SpacingName = Annotated[str, Field(pattern=rf"^({'|'.join(RULES)}|[0-9]{{1,4}}(,[0-9]{{1,4}}){{0,99}})$")]

MODEL_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"  # names become parts of keys, so nothing else may be one

# Bounds that no job reaches: what is stored may be anybody's, and numbers beyond them would break whoever computes.
MAX_IMAGES = 64
MAX_STEPS = 1_000_000
MAX_TIMESTEP = 1_000_000
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact


def choices_of(values: Any) -> Choices:
    """Those attributes of a query or of parameters that a model's `settle` knows."""
    chosen: Any = {name: getattr(values, name) for name in Choices.__annotations__}
    return Choices(**chosen)  # type: ignore[typeddict-item]  # mypy cannot see them


class SamplingParams(Frozen):
    """How the pictures are made, with nothing left open.

    Attributes:
        n: number of images.
        steps: network calls for each image.
        eta: stochasticity of ddim.
        variance: of ddpm.
        clip: what happens to each predicted picture on the way.
        seed: of image 0; image i has seed + i.
        label: class index, None for an unconditional image.
        guidance_scale: of classifier-free guidance; 1 is off.
        classifier_scale: of guidance by a classifier; 0 is off.
    """

    n: int = Field(ge=1, le=MAX_IMAGES)
    steps: int = Field(ge=1, le=MAX_STEPS)
    sampler: SamplerName
    spacing: SpacingName
    eta: float = Field(ge=0, le=1)
    variance: Variance = "fixed_small"
    clip: ClipMode = "static"
    seed: int = Field(ge=0, le=MAX_SEED)
    label: int | None = Field(default=None, ge=0, le=MAX_SEED)
    guidance_scale: float = Field(default=1.0, ge=0, le=100)
    classifier_scale: float = Field(default=0.0, ge=0, le=100)

    @property
    def choices(self) -> Choices:
        """The settings of the run, as a model's `plan` takes them."""
        return choices_of(self)

    @property
    def image_steps(self) -> int:
        """Of the images alone: their number times network calls, and once more for each kind of guidance."""
        return self.n * self.steps * (1 + (self.guidance_scale != 1.0) + (self.classifier_scale != 0.0))
