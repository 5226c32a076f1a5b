"""The sampling parameters of every kind of job; `model.plans` defines their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from model.guidance import MOST_SIGMA, Guidance, network_calls
from model.plans.clipping import ClipMode
from model.plans.samplers import MOST_ETA, SAMPLERS, Variance
from model.plans.settings import Choices
from model.plans.spacing import LISTED, RULES

from .values import Frozen

# A type that validates requests. For mypy, which cannot see the registry, it is a plain string.
if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]

# The name of a rule, the number of steps in each of several equal sections of the timesteps, or a list of timesteps.
SpacingName = Annotated[
    str,
    Field(pattern=rf"^({'|'.join(RULES)}|[0-9]{{1,4}}(,[0-9]{{1,4}}){{0,99}}|{LISTED.pattern})$"),
]

TAG = r"^[\x20-\x7e]{1,64}$"  # a client's own word for its jobs: printable ASCII

MODEL_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"  # the only form of names, because they become parts of keys

# Bounds that no job reaches. Somebody else may have written to Redis, and larger numbers would make computations fail.
MAX_IMAGES = 64
MAX_STEPS = 1_000_000
MAX_TIMESTEP = 1_000_000
MAX_SEED = 2**53 - 1  # the largest integer that every JSON parser keeps exact

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Eta = Annotated[float, Field(ge=0, le=MOST_ETA)]
ClassIndex = Annotated[int, Field(ge=0, le=MAX_SEED)]
Sigma = Annotated[float, Field(ge=0, le=MOST_SIGMA)]


def choices_of(values: Any) -> Choices:
    """Returns the attributes of a query or of parameters that are arguments of a model's `settle` and `plan`."""
    return cast("Choices", {name: getattr(values, name) for name in Choices.__annotations__})


class SamplingParams(Frozen):
    """The sampling parameters of a job, all filled in.

    Attributes:
        n: the number of images.
        steps: the network calls for each image.
        sampler: the name of the sampler.
        spacing: the choice of the timesteps.
        eta: the stochasticity of ddim, 0..1, and dpmpp, 0..10.
        variance: the variance of ddpm.
        clip: the clipping of the predicted image at each step.
        seed: the seed of image 0, and image i has seed + i; or the seeds of all images.
        label: the index of the class of all images, or those of each; None for unconditional images.
        guidance_scale: the scale of guidance by the model's weaker network, or else of classifier-free guidance; 1 is
            off.
        guidance_low, guidance_high: the noise levels, as sigma, where that guidance acts; None for an end that is open,
            and absent from JSON.
        classifier_scale: the scale of guidance by a classifier; 0 is off.
    """

    n: int = Field(ge=1, le=MAX_IMAGES)
    steps: int = Field(ge=1, le=MAX_STEPS)
    sampler: SamplerName
    spacing: SpacingName
    eta: Eta
    variance: Variance = "fixed_small"
    clip: ClipMode = "static"
    seed: Seed | tuple[Seed, ...]
    label: ClassIndex | tuple[ClassIndex, ...] | None = None
    guidance_scale: float = Field(default=1.0, ge=0, le=100)
    guidance_low: Sigma | None = Field(default=None, exclude_if=lambda value: value is None)
    guidance_high: Sigma | None = Field(default=None, exclude_if=lambda value: value is None)
    classifier_scale: float = Field(default=0.0, ge=0, le=100)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for name in ("seed", "label"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) != self.n:
                raise ValueError(f"{name} must be one, or one for each of {self.n} images, not {len(values)}")
        Guidance(self.guidance_scale, self.guidance_low, self.guidance_high)  # or there is no such interval
        return self

    @property
    def guidance(self) -> Guidance:
        """Guidance without a classifier."""
        return Guidance(self.guidance_scale, self.guidance_low, self.guidance_high)

    def seed_of(self, index: int) -> int:
        """Returns the seed of an image."""
        return self.seed[index] if isinstance(self.seed, tuple) else self.seed + index

    def label_of(self, index: int) -> int | None:
        """Returns the index of the class of an image; None if it has none."""
        return self.label[index] if isinstance(self.label, tuple) else self.label

    @property
    def choices(self) -> Choices:
        """The settings of the run, as a model's `plan` takes them."""
        return choices_of(self)

    def calls(self, guided_steps: int | None = None) -> int:
        """Returns the network calls that draw one image: one in each step, and one more for each kind of guidance.

        Args:
            guided_steps: the number of steps in which guidance without a classifier acts, if there is any; None for
                all of them.
        """
        guided = self.steps if guided_steps is None else guided_steps
        return network_calls(
            self.steps,
            guided=guided if self.guidance_scale != 1.0 else 0,
            by_classifier=self.steps if self.classifier_scale else 0,
        )
