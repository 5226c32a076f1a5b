"""What /interpolate, /denoise and /restore ask for beyond sampling, and what a job makes of it."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import Field

from jobs.catalog import ModelInfo
from jobs.contract import SPACING_RULES, SamplingParams
from jobs.levels import GREY_LEVEL, enter_at, noise_levels
from jobs.tasks import MAX_IMAGES, MAX_SIGMA, Denoising, Interpolation, Restoring

from .errors import InvalidRequest, UploadRefused
from .parameters import SamplingQuery, fill_in
from .pictures import Fitted, fit, fit_mask

DEFAULT_STRENGTH = 0.5  # of /interpolate: Ho et al. 2020, figure 8
RESTORE_STEPS = 50  # the publication has 20, which are up to 3 dB worse, and never clearly better: docs/benchmarks.md
RESTORE_ETA = 0.85  # of DDRM: Kawar et al. 2022, section 4.3


class PictureQuery(SamplingQuery):
    """With a picture that has to be brought to the model's size."""

    fit: Literal["cover", "contain"] = Field(
        default="cover", description="how a picture is brought to the model's size: cropped, or padded with white"
    )


class InterpolateQuery(PictureQuery):
    """Of /interpolate."""

    shares: list[float] = Field(
        default=[0.5],
        alias="lambda",
        min_length=1,
        max_length=MAX_IMAGES,
        description="share of the second picture, 0 to 1; may be repeated, for one picture each",
    )
    t: int | None = Field(default=None, ge=0, description="timestep to which both are noised, or inverted")
    mode: Literal["ddpm", "ddim"] = Field(default="ddpm", description="noise and mix, or invert and go along the arc")
    noise: Literal["shared", "independent", "rescaled"] = Field(default="shared", description="of ddpm")


class DenoiseQuery(PictureQuery):
    """Of /denoise."""

    sigma: float | None = Field(default=None, ge=0, le=MAX_SIGMA, description="of the noise, in grey levels of 0..255")
    t: int | None = Field(default=None, ge=0, description="the timestep that is as noisy as the picture, instead")
    strength: float | None = Field(
        default=None, gt=0, le=1, description="draw a clean picture anew, from so far into the noise, instead"
    )
    mode: Literal["sample", "mmse"] = Field(default="sample", description="run the chain, or guess at once")
    average: bool = Field(default=False, description="answer with the mean of the n samples")

    @property
    def says_how_noisy(self) -> bool:
        """Whether the noise need not be estimated."""
        return (self.sigma, self.t, self.strength) != (None, None, None)


class RestoreQuery(PictureQuery):
    """Of /restore."""

    task: Literal["inpaint", "superres", "colorize", "deblur"]
    factor: Literal["2", "4"] = Field(default="2", description="of superres")
    blur: Literal["gaussian", "uniform"] = Field(default="gaussian", description="of deblur")
    width: float = Field(default=2.0, gt=0, le=32, description="of the blur, in pixels of the model")
    sigma: float = Field(default=0.0, ge=0, le=255, description="of the noise, in grey levels of 0..255")


def interpolation(query: InterpolateQuery, model: ModelInfo) -> tuple[SamplingParams, Interpolation]:
    """Decides what /interpolate left open.

    Raises:
        InvalidRequest: if the model cannot do what is asked.
    """
    count = len(query.shares)
    if not all(0 <= share <= 1 for share in query.shares):
        raise InvalidRequest("parameter", "lambda", "Should lie between 0 and 1")
    if "n" in query.model_fields_set and query.n != count:
        raise InvalidRequest("parameter", "n", "Is the number of lambda here")
    total = model.num_train_timesteps
    depth = query.t
    if query.mode == "ddim":
        _only(query, "sampler", "ddim", "mode ddim")
        _only(query, "eta", 0.0, "mode ddim")
        query = query.model_copy(update={"sampler": "ddim", "eta": 0.0})
        depth = total - 1 if depth is None else depth
    if depth is None:
        depth = max(0, round(DEFAULT_STRENGTH * total) - 1)
    if depth >= total:
        raise InvalidRequest("parameter", "t", f"Should be at most {total - 1}")
    params = fill_in(query.model_copy(update={"n": count}), model, depth=depth)
    task = Interpolation(shares=tuple(query.shares), depth=depth, mode=query.mode, noise=query.noise)
    return params, task


def denoising(query: DenoiseQuery, model: ModelInfo, *, estimate: float) -> tuple[SamplingParams, Denoising]:
    """Decides what /denoise left open.

    Args:
        estimate: of the noise in the picture, in grey levels; taken if the request says nothing else.

    Raises:
        InvalidRequest: if the model cannot do what is asked.
    """
    given = [name for name in ("sigma", "t", "strength") if getattr(query, name) is not None]
    if len(given) > 1:
        raise InvalidRequest("parameter", given[1], f"Cannot go with {given[0]}")
    total, sigma = model.num_train_timesteps, estimate if query.sigma is None else query.sigma
    if query.t is not None and query.t >= total:
        raise InvalidRequest("parameter", "t", f"Should be at most {total - 1}")
    if query.t is not None:
        depth, sigma = query.t, noise_levels(model.schedule)[query.t] / GREY_LEVEL
        if sigma > MAX_SIGMA:
            raise InvalidRequest("parameter", "t", f"{model.name} leaves nothing of a picture there")
    elif query.strength is not None:
        depth = max(0, round(query.strength * total) - 1)
    else:
        entry = enter_at(model.schedule, sigma)
        if entry is None:
            raise InvalidRequest("parameter", "sigma", f"Is more noise than {model.name} knows")
        depth = entry
    task = Denoising(
        sigma=None if query.strength is not None else sigma,
        estimated=not query.says_how_noisy,
        depth=depth,
        mode=query.mode,
        average=query.average,
    )
    if task.estimated and query.steps is not None:  # nobody could know how many there are from an unknown depth
        query = query.model_copy(update={"steps": min(query.steps, depth + 1)})
    return _denoise_params(query, model, task), task


def _denoise_params(query: DenoiseQuery, model: ModelInfo, task: Denoising) -> SamplingParams:
    if task.mode == "sample":
        return fill_in(query, model, depth=task.depth)
    if task.sigma is None:
        raise InvalidRequest("parameter", "mode", "mmse removes noise, and a clean picture has none")
    for name, only in (("n", 1), ("steps", 1), ("sampler", "ddim")):
        _only(query, name, only, "mode mmse")
    return fill_in(query.model_copy(update={"steps": 1, "sampler": "ddim", "eta": 0.0}), model, depth=task.depth)


def restoring(query: RestoreQuery, model: ModelInfo) -> tuple[SamplingParams, Restoring]:
    """Decides what /restore left open.

    Raises:
        InvalidRequest: if the model cannot do what is asked.
    """
    factor: Literal[2, 4] = 4 if query.factor == "4" else 2
    if query.task == "superres" and model.image_size % factor:
        raise InvalidRequest("parameter", "factor", f"Should divide the size of {model.name}, {model.image_size}")
    if query.task == "colorize" and model.channels == 1:
        raise InvalidRequest("parameter", "task", f"{model.name} knows no colour")
    if query.task == "deblur" and query.blur == "uniform" and query.width not in range(3, 32, 2):
        raise InvalidRequest("parameter", "width", "Should be an odd number from 3 to 31 for a uniform blur")
    _only(query, "sampler", "ddim", "/restore")
    _only(query, "eta", RESTORE_ETA, "/restore")
    _only(query, "classifier_scale", 0.0, "/restore")
    chosen: dict[str, object] = {"sampler": "ddim", "eta": 0.0, "classifier_scale": 0.0}
    if query.steps is None and query.spacing in (None, *SPACING_RULES):
        chosen["steps"] = min(RESTORE_STEPS, model.num_train_timesteps)
    params = fill_in(query.model_copy(update=chosen), model).model_copy(update={"eta": RESTORE_ETA})
    task = Restoring(task=query.task, factor=factor, blur=query.blur, width=query.width, sigma=query.sigma)
    return params, task


def restore_parts(query: RestoreQuery, model: ModelInfo) -> dict[str, Any]:
    """What becomes of each part: the picture in the size and colours that were measured, the mask in the model's."""
    size = model.image_size // int(query.factor) if query.task == "superres" else model.image_size
    channels = 1 if query.task == "colorize" else model.channels
    parts: dict[str, Any] = {"image": partial(fit, size=size, channels=channels, how=query.fit)}
    if query.task == "inpaint":
        parts["mask"] = partial(fit_mask, size=size, how=query.fit)
    return parts


def matched(sent: dict[str, Fitted]) -> list[Fitted]:
    """The picture, and its mask if there is one.

    Raises:
        UploadRefused: if they had different sizes, so that the mask would mark the wrong pixels.
    """
    picture, mask = sent["image"], sent.get("mask")
    if mask is None:
        return [picture]
    if (mask.width, mask.height) != (picture.width, picture.height):
        raise UploadRefused(f"Should have the size of the image, {picture.width}x{picture.height}", part="mask")
    return [picture, mask]


def _only(query: SamplingQuery, name: str, value: object, where: str) -> None:
    """Refuses a parameter that has one possible value here, unless it has that."""
    if name in query.model_fields_set and getattr(query, name) not in (None, value):
        raise InvalidRequest("parameter", name, f"Is always {value} with {where}")
