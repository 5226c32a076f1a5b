"""Drawing images from an image by a model that enlarges (Saharia et al. 2021)."""

from typing import ClassVar, Literal

from pydantic import Field

from ..cascade import augmentation_of
from ..catalog import ModelInfo
from ..defaults import fill_in
from ..queries import ImageQuery
from .base import Images, Kind, Prepared, Task


class UpscaleQuery(ImageQuery):
    """Query parameters of /upscale."""

    augmentation: float | None = Field(
        default=None,
        ge=0,
        le=1,
        examples=[0.1],
        description="standard deviation of the noise that is added to the image first, of a range of -1..1; "
        "by default the model's",
    )


class Upscaling(Task):
    """Drawing images from an image, to which noise of the deviation `augmentation` is added; another in each answer."""

    kind: Literal["upscale"] = "upscale"
    enlarges: ClassVar[bool] = True
    augmentation: float = Field(ge=0, le=1)


def complete(query: UpscaleQuery, model: ModelInfo, images: Images) -> Prepared:
    task = Upscaling(augmentation=augmentation_of(model, query.augmentation, "augmentation"))
    params, plan = fill_in(query, model)
    return Prepared(params, task, plan=plan)


KIND = Kind(
    "upscale",
    "Enlarge an image",
    UpscaleQuery,
    Upscaling,
    complete,
    choose=lambda query, catalog: catalog.choose(query.model, version=query.version, enlarging=True),
    required=("image",),
    description="Needs a model that was trained on pairs of images; see `condition` in `/models`.",
)
