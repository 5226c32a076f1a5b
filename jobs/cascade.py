"""Cascades: a model draws small images, and another enlarges them, in one job (Ho et al. 2022)."""

import math
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from difuso.model.errors import PlanError
from difuso.model.folders.config import ModelConfig
from difuso.model.plans.clipping import ClipMode
from difuso.model.plans.samplers.transition import Variance
from difuso.model.plans.settings import RUN, Run, Settings

from .catalog import ModelInfo
from .errors import RequestRefused
from .params import MAX_SEED, MODEL_NAME
from .values import Frozen, require_written

UNGUIDED = (*RUN, "variance", "clip")
SEED_OFFSET = 2**52  # half of the seeds: drawn seeds, which are short, never meet those of second stages
MAX_WEIGHT = 2**20  # no image of a model has more pixels


class Enlarging(Frozen, Run):
    """The second stage of a cascade, all filled in: how a model enlarges each image of the first, unguided.

    Attributes:
        augmentation: the standard deviation of the noise that is added to each small image first, 0..1.
        weight: the image-steps that one of its network calls for one image counts as, because its image is larger.
    """

    model_config = ConfigDict(json_schema_extra=require_written)

    variance: Variance
    clip: ClipMode
    model: str = Field(pattern=MODEL_NAME)
    augmentation: float = Field(ge=0, le=1)
    weight: int = Field(ge=1, le=MAX_WEIGHT)

    if TYPE_CHECKING:  # mypy's plugin does not see the settings

        def __init__(self, **values: Any) -> None: ...

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        return Settings(**{name: getattr(self, name) for name in UNGUIDED})

    @property
    def facts(self) -> dict[str, Any]:
        """Its description in PNGs, in the order that all PNGs have so far."""
        return {"model": self.model, "steps": self.steps} | self.model_dump(mode="json")

    @property
    def image_steps(self) -> int:
        """The work on one image."""
        return self.steps * self.weight


def enlarging_seed(seed: int) -> int:
    """Returns the seed by which the second stage of a cascade enlarges the image of a seed."""
    return (seed + SEED_OFFSET) % (MAX_SEED + 1)


def enlarging(
    first: ModelInfo, upscaler: ModelInfo, *, steps: int | None, augmentation: float | None, prefix: str
) -> Enlarging:
    """Fills in the second stage of a cascade, with the upscaler's own steps and augmentation where None was sent.

    The parameters of the request begin with `prefix`. Raises RequestRefused if the upscaler cannot run so.
    """
    config = upscaler.config
    if config.small_shape != first.config.shape:
        shape = "x".join(map(str, reversed(first.config.shape)))
        raise RequestRefused(prefix, f"Input should be a model that enlarges {shape}, the size of {first.name}")
    for name in config.required:
        detail = f"Input should be a model that needs no class and no condition: {upscaler.name} needs {name}"
        raise RequestRefused(prefix, detail)
    settings = config.settle(steps=steps)
    try:
        config.plan_of(upscaler.schedule, settings)
    except PlanError as error:
        raise RequestRefused(f"{prefix}_steps", error.reason[:1].upper() + error.reason[1:]) from error
    return Enlarging(
        model=upscaler.name,
        **{name: getattr(settings, name) for name in UNGUIDED},
        augmentation=augmentation_of(upscaler, augmentation, f"{prefix}_augmentation"),
        weight=weight_of(config),
    )


def weight_of(config: ModelConfig) -> int:
    """Returns the image-steps of a call for one image: how many times as many pixels the model makes of it."""
    assert config.small_shape is not None
    return math.ceil((config.shape.height / config.small_shape.height) ** 2)


def augmentation_of(model: ModelInfo, sent: float | None, parameter: str) -> float:
    """Returns the noise that is added first, the model's own by default; RequestRefused if it knows no such noise."""
    own = model.config.condition
    assert own is not None
    if sent is None:
        return own.augmentation
    if sent > own.max_augmentation:
        most = own.max_augmentation
        raise RequestRefused(parameter, f"Input should be at most {most:g}, the most that {model.name} was trained on")
    return sent
