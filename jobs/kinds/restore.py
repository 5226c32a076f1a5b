"""Restoring a degraded image (Kawar et al. 2022)."""

from functools import partial
from typing import Literal

from pydantic import Field

from difuso.model.plans.settings import RESTORATION_ETA
from difuso.model.shape import Shape

from ..catalog import ModelInfo
from ..defaults import fill_in
from ..errors import ImageRefused, RequestRefused
from ..images.fitting import fit, fit_mask
from ..queries import ImageQuery
from .base import Fit, FromPicture, Images, Kind, Prepared, probes_for

STEPS = 20  # as in the publication; 50 restore details better by half a decibel at most, and colours worse
OPEN = ("inpaint", "colorize")  # what leaves open which conditions a picture has, and improves by them
Degradation = Literal["inpaint", "superres", "colorize", "deblur"]


class RestoreQuery(ImageQuery):
    """Query parameters of /restore."""

    degradation: Degradation = Field(alias="task", examples=["superres"], description="degradation to undo")
    factor: Literal["2", "4"] = Field(default="2", description="scale factor; superres only")
    blur: Literal["gaussian", "uniform"] = Field(default="gaussian", description="kernel of the blur; deblur only")
    width: float = Field(default=2.0, gt=0, le=32, description="width of the blur, in pixels of the model; deblur only")
    sigma: float = Field(
        default=0.0,
        ge=0,
        le=255,
        examples=[10.0],
        description="standard deviation of the noise, in grey levels of 0..255",
    )


class Restoring(FromPicture):
    """Restoring a degraded image.

    Attributes:
        degradation: `inpaint` fills the pixels that the mask marks, `superres` adds pixels, `colorize` adds colour,
            `deblur` sharpens.
        factor: the scale factor of `superres`.
        width: of the blur in pixels of the model: the standard deviation of a Gaussian, or the side of a square.
        sigma: the standard deviation of the noise in the image, in grey levels of 0..255.
    """

    kind: Literal["restore"] = "restore"
    degradation: Degradation = Field(alias="task")
    factor: Literal[2, 4] = 2
    blur: Literal["gaussian", "uniform"] = "gaussian"
    width: float = Field(default=2.0, gt=0, le=32)
    sigma: float = Field(default=0.0, ge=0, le=255)


def complete(query: RestoreQuery, model: ModelInfo, images: Images) -> Prepared:
    factor: Literal[2, 4] = 4 if query.factor == "4" else 2
    _check(query, model, factor)
    image, mask = images.get("image"), images.get("mask")
    if image and mask and (mask.width, mask.height) != (image.width, image.height):
        raise ImageRefused(f"The mask should have the size of the image, {image.width}x{image.height}", part="mask")
    query.only("sampler", "ddim", "/restore")
    query.only("eta", RESTORATION_ETA, "/restore")
    query.only("classifier_scale", 0.0, "/restore")
    query.only("plan", None, "/restore")
    chosen: dict[str, object] = {"sampler": "ddim", "eta": RESTORATION_ETA, "classifier_scale": 0.0}
    if "guidance_scale" not in query.chosen:
        chosen["guidance_scale"] = 1.0  # the measurement guides already
    if not query.chooses_steps:
        chosen["steps"] = min(STEPS, model.schedule.num_train_timesteps)
    probes = probes_for(query, model, images) if query.degradation in OPEN else 0
    params, plan = fill_in(query.model_copy(update=chosen), model, with_examples=probes > 0)
    own = query.model_dump(include={"blur", "width", "sigma"})
    task = Restoring(task=query.degradation, factor=factor, probes=probes, **own)
    return Prepared(params, task, plan=plan)


def fits(query: RestoreQuery, model: ModelInfo) -> dict[str, Fit]:
    """Returns the fits: the image gets the size and channels of the measurement, the mask the size of the model."""
    factor = int(query.factor) if query.degradation == "superres" else 1
    channels, height, width = model.config.shape
    shape = Shape(1 if query.degradation == "colorize" else channels, height // factor, width // factor)
    parts: dict[str, Fit] = {"image": partial(fit, shape=shape, how=query.fit)}
    if query.degradation == "inpaint":
        parts["mask"] = partial(fit_mask, shape=shape, how=query.fit)
    return parts


def _check(query: RestoreQuery, model: ModelInfo, factor: int) -> None:
    shape = model.config.shape
    if query.degradation == "superres" and (shape.height % factor or shape.width % factor):
        raise RequestRefused("factor", f"Input should divide the image size of {model.name}, {shape.in_pixels}")
    if query.degradation == "colorize" and shape.channels != 3:
        makes = "grey images" if shape.channels == 1 else f"images of {shape.channels} channels"
        raise RequestRefused("task", f"Input cannot be colorize: {model.name} makes {makes}")
    if query.degradation == "deblur" and query.blur == "uniform" and query.width not in range(3, 32, 2):
        raise RequestRefused("width", "Input should be an odd number from 3 to 31 for a uniform blur")


KIND = Kind(
    "restore",
    "Restore a degraded image",
    RestoreQuery,
    Restoring,
    complete,
    fits,
    required=("image",),
    optional=("mask",),
    description="`inpaint` needs a part `mask`, white where the image is missing.",
)
