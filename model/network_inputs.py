"""The inputs of a network beside x_t and t, made from its conditions; see `model.conditions`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from .conditions import (
    Choice,
    Condition,
    Conditions,
    Image,
    ImageMap,
    Number,
    Value,
    Vector,
    VectorSequence,
    sequences_in,
)

NetworkInputs: TypeAlias = dict[str, Tensor]
"""The arguments of a network beside x_t and t by name, those that it takes; `model.conditions` lists them."""


class Column(NamedTuple):
    """One condition of each image of a batch."""

    # indices of a choice's values, int64, shape (B,); numbers, float32, shape (B,); vectors, float32, shape (B, size);
    # maps of indices, integers, shape (B, h, w); images in [-1, 1], float32, shape (B, C, h, w); sequences, float32,
    # shape (B, most, width)
    values: Tensor
    # whether an image has the condition, bool, shape (B,); how many vectors of a sequence it has, int64. Where it has
    # nothing, the value has no effect.
    present: Tensor

    def without(self, lost: Tensor) -> "Column":
        """Returns the column where images lose the condition, bool, shape (B,)."""
        return self._replace(present=self.present * ~lost)


def column(condition: Condition, values: Sequence[Value | Tensor | None]) -> Column:
    """Returns a condition's column, from what `Condition.read` returned, or from tensors; None is absent."""
    present = torch.tensor([value is not None for value in values])
    match condition:
        case ImageMap() | Image():
            blank = torch.zeros(1, 1) if isinstance(condition, ImageMap) else torch.zeros(condition.shape)
            images = [value for value in values if isinstance(value, Tensor)]
            filled = [value if isinstance(value, Tensor) else (images or [blank])[0] for value in values]
            return Column(torch.stack(filled), present)
        case Choice(values=names):
            return Column(torch.tensor([0 if each is None else names.index(str(each)) for each in values]), present)
        case VectorSequence(width=width, most=most):
            padded = torch.zeros(len(values), most, width)
            lengths = [len(each) if isinstance(each, Tensor) else 0 for each in values]
            for row, length, each in zip(padded, lengths, values, strict=True):
                if isinstance(each, Tensor):
                    row[:length] = each
            return Column(padded, torch.tensor(lengths))
        case Vector(size=size):
            nothing = [0.0] * size
            return Column(torch.tensor([nothing if value is None else value for value in values]), present)
        case _:
            return Column(torch.tensor([0.0 if value is None else value for value in values]), present)


def inputs_of(
    conditions: Conditions, values: Sequence[Mapping[str, Value | Tensor]], size: tuple[int, int]
) -> NetworkInputs:
    """Returns the inputs of images of a size (H, W) by their conditions, see `inputs_of_columns`.

    The `values` of each image are by name, as `column` takes them; a condition that an image lacks is absent.
    """
    columns = {name: column(each, [of_image.get(name) for of_image in values]) for name, each in conditions.items()}
    return inputs_of_columns(conditions, columns, size)


def inputs_of_columns(conditions: Conditions, columns: Mapping[str, Column], size: tuple[int, int]) -> NetworkInputs:
    """Returns the inputs `vector`, `planes`, `sequence` and `sequence_mask` of images, those that the network takes.

    All but the mask, which is bool, are float32. The vectors have the shape (B, vector_size(conditions)), and the
    planes (B, plane_count(conditions), *size). The parts of both follow each other in the order of the conditions'
    names:

    - a choice's one-hot vector, a number from -1 to 1, the entries of a vector, and after each part 0. Where a
      condition is absent its part is 0, and after it stands 1;
    - a plane of 0 and 1 for each value of a map; the channels of an image, and after them a plane of 0 if it may be
      left out. Where a condition is absent its planes are 0, but that last one of an image is 1.

    A sequence has the shape (B, most, width). It is 0 where its mask, of shape (B, most), is false: after its vectors,
    and everywhere if it is absent.

    Args:
        columns: the columns of all conditions, by name, on one device.
        size: height and width of x_t.
    """
    parts: dict[str, list[Tensor]] = {"vector": [], "planes": []}
    whole: NetworkInputs = {}
    for name, condition in sorted(conditions.items()):
        values, present = columns[name]
        if isinstance(condition, VectorSequence):
            mask = torch.arange(condition.most, device=values.device) < present[:, None]
            whole = {"sequence": torch.where(mask[..., None], values, 0), "sequence_mask": mask}
        elif condition.planes:
            shown = present.view(-1, 1, 1, 1)
            parts["planes"].append(_planes(condition, values, size) * shown)
            if isinstance(condition, Image) and condition.null:
                parts["planes"].append((~shown).expand(-1, 1, *size))
        else:
            parts["vector"] += [torch.where(present[:, None], _entries(condition, values), 0), ~present[:, None]]
    return {name: torch.cat([part.float() for part in each], dim=1) for name, each in parts.items() if each} | whole


def without_optional(conditions: Conditions, inputs: NetworkInputs) -> NetworkInputs:
    """Returns the inputs of a network without the conditions that may be left out; others do not change."""
    ordered, nothing = sorted(conditions.items()), inputs_of(conditions, [{}], (1, 1))
    sequence = torch.tensor(any(one.null for one in sequences_in(conditions).values()))
    may = {
        "vector": torch.tensor([one.null for _, one in ordered for _ in range(one.entries)]),
        "planes": torch.tensor([one.null for _, one in ordered for _ in range(one.planes)]).view(-1, 1, 1),
        "sequence": sequence,
        "sequence_mask": sequence,
    }
    left = {
        name: torch.where(may[name].to(inputs[name].device), blank.to(inputs[name]), inputs[name])
        for name, blank in nothing.items()
    }
    return {**inputs, **left}


def _entries(condition: Condition, values: Tensor) -> Tensor:
    match condition:
        case Choice(values=names):
            return F.one_hot(values, len(names))
        case Number():
            scaled: Tensor = condition.scaled(values)
            return scaled[:, None]
        case _:
            return values


def _planes(condition: Condition, values: Tensor, size: tuple[int, int]) -> Tensor:
    if isinstance(condition, ImageMap):
        wanted = torch.arange(len(condition.values), device=values.device).view(1, -1, 1, 1)
        return _nearest(values, size)[:, None] == wanted
    return enlarge(values, size)


def _nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes maps of shape (B, h, w): each pixel is the one whose area holds its centre."""
    for dim, (wanted, there) in enumerate(zip(size, maps.shape[1:], strict=True), 1):
        centres = (torch.arange(wanted, device=maps.device) * 2 + 1) * there // (2 * wanted)
        maps = maps.index_select(dim, centres)
    return maps


def augment(images: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Adds noise to images in [-1, 1], shape (B, C, h, w): sqrt(1 - level^2) image + level noise.

    A model that was trained with such images and their levels, 0..1, shape (B,), tolerates the faults of an image that
    another model drew (Ho et al. 2022, section 4.2, in the form of Saharia et al. 2022, algorithm 1).
    """
    level = level.to(images).view(-1, 1, 1, 1)
    return (1 - level * level).sqrt() * images + level * noise


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarges images of shape (B, C, h, w) to a height and width, bicubically (Saharia et al. 2021, section 2.3).

    The filter is that of Pillow. Values may leave [-1, 1] near edges.
    """
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True)
