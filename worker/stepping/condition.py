"""What the network of a trajectory is told: the image that it enlarges, its class and its conditions."""

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from jobs.conditions import uploads_of
from jobs.errors import JobUnreadable
from jobs.params import SamplingParams
from model.condition_inputs import arguments_of, augment, enlarge
from model.conditions import Image, Value
from model.folders.config import ModelConfig
from model.images import to_uint8
from model.transfers import upload

from .trajectory import Condition, Told, Trajectory


def make_condition(image: Tensor, level: float, noise: Tensor, like: Tensor) -> Condition:
    """Makes the condition of a network from an image, in the size and on the device of `like`, shape (C, H, W).

    Args:
        image: shape (c, h, w), in [-1, 1].
        level: the standard deviation of the noise that is added, 0..1.
        noise: standard normal, shape of image.
    """
    noisy = augment(image[None], torch.tensor([level]), noise[None])
    return Condition(upload(enlarge(noisy, (like.shape[-2], like.shape[-1]))[0], like.device), level)


def tell(
    params: SamplingParams, config: ModelConfig, trajectories: Sequence[Trajectory], images: Sequence[Tensor]
) -> None:
    """Tells the trajectories of a job their classes and conditions; the one at an index those of this image.

    Args:
        params: the parameters of the job, whose values the model accepts.
        images: the images that `uploads_of` names, each of shape (C, H, W) in [-1, 1].

    Raises JobUnreadable if an image does not fit.
    """
    sent = dict(zip(uploads_of(params, config.conditions), images, strict=True))

    @cache
    def told(label: int | None, values: frozenset[tuple[str, Value]]) -> Told:
        made = {name: _tensor(config, name, sent[str(each)]) if each in sent else each for name, each in values}
        return told_of(config, label, made, trajectories[0].x.device)

    for index, trajectory in enumerate(trajectories):
        label, values = params.label_of(index), params.conditions_of(index)
        named = {*values, *(() if label is None else ("label",))}
        without = config.left_out(named, params.guide)
        trajectory.told = told(label, frozenset(values.items()))
        trajectory.base = told(
            None if "label" in without else label,
            frozenset(item for item in values.items() if item[0] not in without),
        )


def told_of(config: ModelConfig, label: int | None, values: Mapping[str, Value | Tensor], device: torch.device) -> Told:
    """Returns what a network is told, from the values of its conditions as `arguments_of` takes them."""
    made = arguments_of(config.conditions, [values], config.shape[1:])
    planes = made.get("planes")
    vector = made.get("vector")
    return Told(label, None if vector is None else vector[0], None if planes is None else upload(planes[0], device))


def _tensor(config: ModelConfig, name: str, image: Tensor) -> Tensor:
    """Returns the image of a condition, shape (C, h, w), or the indices of a map, shape (H, W)."""
    condition = config.conditions[name]
    shape = tuple(condition.shape) if isinstance(condition, Image) else (1, *config.shape[1:])
    if tuple(image.shape) != shape:
        raise JobUnreadable(f"the image of {name} must have the shape {shape}, not {tuple(image.shape)}")
    return image if isinstance(condition, Image) else to_uint8(image[None])[0, :, :, 0].long()
