"""Models and jobs as a server shows them, which may say anything: read in the forms that difuso says it."""

from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from difuso.jobs.params import MODEL_NAME, SamplingParams
from difuso.model.conditions import Conditions
from difuso.model.folders.config import Precision, SamplerDefaults
from difuso.model.folders.config_json import RESERVED, read_conditions
from difuso.model.folders.version import VERSION
from difuso.model.shape import MAX_CHANNELS, ImageSize, Shape


class ConditionView(BaseModel):
    """A condition of a model; `model.conditions` knows the other entries."""

    model_config = ConfigDict(extra="allow")

    values: tuple[str, ...] | None = None


class ServedView(BaseModel):
    """The entries of a model in GET /models that drawing needs; all but its name are absent if it is refused."""

    name: str = Field(pattern=MODEL_NAME)
    workers: Annotated[int, Field(ge=0)] = 0
    image_size: ImageSize = 1
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 1
    classes: tuple[str, ...] | None = None
    classifier_classes: Annotated[int, Field(ge=0)] = 0
    conditions: dict[str, ConditionView] = {}
    defaults: SamplerDefaults = SamplerDefaults()
    version: Annotated[str, Field(pattern=VERSION)] = ""  # a part of the names of folders
    precision: Precision = "float32"

    @property
    def shape(self) -> Shape:
        """The shape of an image."""
        return Shape.of(self.image_size, self.channels)

    @cached_property
    def declared(self) -> Conditions:
        """The conditions of the network, by name."""
        named: dict[str, Any] = {name: each.model_dump(exclude_unset=True) for name, each in self.conditions.items()}
        return read_conditions({name: each for name, each in named.items() if name not in RESERVED})

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, of which no two are the same; None if it has none."""
        label = self.conditions.get("label", ConditionView())
        return label.values or self.classes

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ = self.declared  # or they are impossible
        return self


class ServedJob(BaseModel):
    """The entries of a job that the names of its files are made of."""

    model: str = Field(pattern=MODEL_NAME)
    params: SamplingParams
    task: dict[str, Any] = {}
