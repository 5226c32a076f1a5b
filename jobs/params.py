"""The sampling parameters of every kind of job; `model.plans` defines their values."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field

from difuso.model.conditions import MAX_CONDITIONS, NAME, Value
from difuso.model.folders.config import ModelConfig
from difuso.model.plans.settings import Settings

from .values import Frozen, require_written

TAG = r"^[\x20-\x7e]{1,64}$"  # a client's own word for its jobs: printable ASCII

MODEL_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"  # the only form of names, because they become parts of keys

# Bounds that no job reaches. Somebody else may have written to Redis, and larger numbers would make computations fail.
MAX_IMAGES = 64
MAX_CONDITION_TEXT = 400_000  # characters of all conditions as JSON, which most of a job may be
MAX_TIMESTEP = 1_000_000
MAX_SEED = 2**53 - 1  # the largest integer that every JSON parser keeps exact

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
ClassIndex = Annotated[int, Field(ge=0, le=MAX_SEED)]
ConditionName = Annotated[str, Field(pattern=f"^{NAME}$")]
ImageValues = Annotated[tuple[Value, ...], Field(min_length=1, max_length=MAX_IMAGES)]


class SamplingParams(Frozen, Settings):
    """The sampling parameters of a job, all filled in: its settings, see `model.plans.settings`, and its images.

    Attributes:
        n: the number of images.
        seed: the seed of image 0, and image i has seed + i; or the seeds of all images.
        label: the index of the class of all images, or those of each; None for unconditional images.
        conditions: the values of the model's conditions by name, one for all images or one for each; see
            `model.conditions`.
        guide: the names of the conditions, `label` among them, that guidance without a classifier acts on; None for all
            that are there and may be left out.
    """

    model_config = ConfigDict(json_schema_extra=require_written)

    n: int = Field(ge=1, le=MAX_IMAGES)
    seed: Seed | tuple[Seed, ...]
    label: ClassIndex | tuple[ClassIndex, ...] | None = None
    # Left out where they are empty: most jobs have none.
    conditions: Mapping[ConditionName, ImageValues] = Field(
        default={}, max_length=MAX_CONDITIONS, exclude_if=lambda value: not value
    )
    guide: tuple[ConditionName, ...] | None = Field(
        default=None, max_length=MAX_CONDITIONS + 1, exclude_if=lambda value: value is None
    )

    if TYPE_CHECKING:  # mypy's plugin does not see the settings

        def __init__(self, **values: Any) -> None: ...

    def seed_of(self, index: int) -> int:
        """Returns the seed of an image."""
        return self.seed[index] if isinstance(self.seed, tuple) else self.seed + index

    def label_of(self, index: int) -> int | None:
        """Returns the index of the class of an image; None if it has none."""
        return self.label[index] if isinstance(self.label, tuple) else self.label

    @property
    def conditions_differ(self) -> bool:
        """Whether images have different values of a condition."""
        return any(len(values) > 1 for values in self.conditions.values())

    def conditions_of(self, index: int) -> dict[str, Value]:
        """Returns the values of an image's conditions, by name."""
        return {name: values[index % len(values)] for name, values in self.conditions.items()}

    def uploads(self, config: ModelConfig) -> list[str]:
        """Returns the SHA-256 of the files among the conditions, each once, in a fixed order."""
        declared = config.conditions
        names = sorted(name for name in self.conditions if name in declared and declared[name].is_file)
        return list(dict.fromkeys(str(value) for name in names for value in self.conditions[name]))

    @property
    def vector_numbers(self) -> int:
        """How many numbers the vectors of all images have."""
        return sum(len(value) for values in self.conditions.values() for value in values if isinstance(value, tuple))

    def calls(self, guided_steps: int | None = None) -> int:
        """Returns the network calls that draw one image: one in each step, and one more for each kind of guidance.

        Guidance without a classifier acts in `guided_steps`, None for all of them.
        """
        guided = self.steps if guided_steps is None else guided_steps
        by_classifier = self.steps if self.classifier_scale else 0
        return self.steps + (guided if self.guidance.scale != 1.0 else 0) + by_classifier
