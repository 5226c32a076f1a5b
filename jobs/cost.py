"""The cost of a request against the limits of its owner: work, and room in the result store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cascade import weight_of
from .traces import moment_bytes

if TYPE_CHECKING:
    from .catalog import ModelInfo
    from .kinds.base import Prepared

# The most bytes in addition to the numbers, each several times the largest size ever seen.
TEXT_BYTES = 4096  # the description of a job in an image or a manifest, in addition to the parts counted here
NUMBER_BYTES = 24  # a timestep, a seed or a class, as text
ARRAYS_BYTES = 4096  # names and headers of the arrays of a trace
MOMENT_FACTS = 16  # timestep and alphas_cumprod of a moment, float64


@dataclass(frozen=True)
class Cost:
    """The cost of a request.

    Attributes:
        image_steps: the work in image-steps. A call of a model that enlarges an image counts more, as in a cascade.
        stored_bytes: the most bytes that the request leaves in the store: its uploads, its images and its trace.
    """

    image_steps: int
    stored_bytes: int


NOTHING = Cost(0, 0)


def cost_of(prepared: Prepared, model: ModelInfo) -> Cost:
    """Returns the cost of a complete request to a model."""
    weight = weight_of(model.config) if prepared.task.needs_condition else 1
    return Cost(weight * prepared.image_steps, _stored_bytes(prepared, model))


def _stored_bytes(prepared: Prepared, model: ModelInfo) -> int:
    params = prepared.params
    text = TEXT_BYTES + len(params.spacing) + NUMBER_BYTES * (params.steps + 2 * params.n)
    images = prepared.task.answers(params) * (_png_bytes(model.final_shape, prepared.bits) + text)
    moments = len(prepared.trace) * (MOMENT_FACTS + params.n * moment_bytes(model.config.shape))
    uploads = sum(len(image.png) for image in prepared.images)
    return uploads + images + text + moments + (ARRAYS_BYTES if moments else 0)


def _png_bytes(shape: Sequence[int], bits: int) -> int:
    """Returns the most bytes of an image of shape (C, H, W), as it is stored.

    A PNG of noise has its pixels, a byte for each row of each plane, and up to a hundredth more. Small images are
    stored in base64, which has 4 bytes for 3.
    """
    channels, height, width = shape
    return int(1.01 * 4 / 3 * channels * height * (width * bits // 8 + 1))
