"""The inputs of the networks of a job's trajectories: classes, conditions, and the image that a network enlarges."""

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.params import SamplingParams
from difuso.model.conditions import Image, Value, VectorSequence
from difuso.model.folders.config import ModelConfig
from difuso.model.images import to_uint8
from difuso.model.memory import upload
from difuso.model.network_inputs import NetworkInputs, augment, enlarge, inputs_of

from .trajectory import Trajectory


def enlarged_inputs(image: Tensor, level: float, noise: Tensor, like: Tensor) -> NetworkInputs:
    """Returns the inputs `planes` and `level` for an image to enlarge, in the size and on the device of `like`.

    Args:
        image: shape (c, h, w), in [-1, 1].
        level: the standard deviation of the noise that is added, 0..1.
        noise: standard normal, shape of image.
        like: shape (C, H, W).
    """
    noisy = augment(image[None], torch.tensor([level]), noise[None])
    planes = upload(enlarge(noisy, (like.shape[-2], like.shape[-1]))[0], like.device)
    return {"planes": planes, "level": torch.tensor(level)}


def check_accepted(job: Job, config: ModelConfig) -> None:
    """Raises JobUnreadable unless a model accepts the classes and the conditions of a job.

    A wrong index would end a GPU's process.
    """
    params = job.params
    for index in range(params.n):
        label, values = params.label_of(index), params.conditions_of(index)
        if not config.accepts(label, params, values=values, guide=params.guide):
            named = ", ".join(values) or "none"
            raise JobUnreadable(f"{job.model} does not accept class {label} with conditions: {named}")


def add_inputs(
    params: SamplingParams, config: ModelConfig, trajectories: Sequence[Trajectory], files: Sequence[Tensor]
) -> None:
    """Gives the trajectories of a job their classes and conditions; each gets those of the image of its index.

    Args:
        params: the parameters of the job, whose values the model accepts.
        files: what `params.uploads` names: images of shape (C, H, W) in [-1, 1], and sequences of shape (l, width).

    Raises JobUnreadable if one does not fit.
    """
    sent = dict(zip(params.uploads(config), files, strict=True))

    @cache
    def inputs(label: int | None, values: frozenset[tuple[str, Value]]) -> NetworkInputs:
        made = {name: _tensor(config, name, sent[str(each)]) if each in sent else each for name, each in values}
        return inputs_of_image(config, label, made, trajectories[0].x.device)

    for index, trajectory in enumerate(trajectories):
        label, values = params.label_of(index), params.conditions_of(index)
        without = config.left_out({*values, *(() if label is None else ("label",))}, params.guide)
        rest = frozenset(item for item in values.items() if item[0] not in without)
        enlarged = trajectory.inputs
        trajectory.inputs = joined(enlarged, inputs(label, frozenset(values.items())))
        trajectory.base_inputs = joined(enlarged, inputs(None if "label" in without else label, rest))


def inputs_of_image(
    config: ModelConfig, label: int | None, values: Mapping[str, Value | Tensor], device: torch.device
) -> NetworkInputs:
    """Returns the inputs of one image, large ones on a device: shapes (), (V,), (P, H, W), (L, D) and (L,).

    Args:
        label: the index of its class; None for none.
        values: the values of its conditions, as `model.network_inputs.inputs_of` takes them.
    """
    made = {name: each[0] for name, each in inputs_of(config.conditions, [values], config.shape[1:]).items()}
    for name in made.keys() & {"planes", "sequence"}:
        made[name] = upload(made[name], device)
    return {**made, "labels": torch.tensor(len(config.classes or ()) if label is None else label)}


def joined(enlarged: NetworkInputs, others: NetworkInputs) -> NetworkInputs:
    """Returns all inputs of one image; the planes of the image that the network enlarges are the first."""
    planes = [each["planes"] for each in (enlarged, others) if "planes" in each]
    return {**enlarged, **others, **({"planes": torch.cat(planes)} if len(planes) > 1 else {})}


def _tensor(config: ModelConfig, name: str, image: Tensor) -> Tensor:
    """Returns the image of a condition, shape (C, h, w), the indices of a map, (H, W), or a sequence, (l, width)."""
    condition = config.conditions[name]
    if isinstance(condition, VectorSequence):
        try:
            return torch.from_numpy(condition.array(image.numpy()))
        except ValueError as error:
            raise JobUnreadable(f"the sequence {name} {error}") from error
    shape = tuple(condition.shape) if isinstance(condition, Image) else (1, *config.shape[1:])
    if tuple(image.shape) != shape:
        raise JobUnreadable(f"the image of {name} must have the shape {shape}, not {tuple(image.shape)}")
    return image if isinstance(condition, Image) else to_uint8(image[None])[0, :, :, 0].long()
