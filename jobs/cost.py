"""The cost of a request against the limits of its owner: work, and room in the result store and in Redis."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from .cascade import weight_of
from .catalog import ModelInfo
from .kinds.base import Prepared, is_probed
from .moments import film_bytes, trace_bytes

# The most bytes in addition to the numbers, each several times the largest size ever seen.
TEXT_BYTES = 4096  # the description of a job in an image or a manifest, in addition to the parts counted here
PICTURE_BYTES = 160  # of a picture of a request in its job
NUMBER_BYTES = 24  # a timestep, a seed or a class, as text
ARRAYS_BYTES = 4096  # names and headers of the arrays of a trace
BASE64 = 4 / 3  # in which small images and films are stored
MOMENT_FACTS = 16  # timestep and alphas_cumprod of a moment, float64
KEPT_TWICE = 2  # a job's record in Redis is kept twice as long as its images, in whose time an account fills


@dataclass(frozen=True)
class Cost:
    """The cost of a request."""

    image_steps: int  # the work in image-steps. A call of a model that enlarges an image counts more, as in a cascade.
    # the most bytes that the request leaves in the store, its uploads, its images with their films, and its trace; and
    # those of its job's record in Redis, twice
    stored_bytes: int


NOTHING = Cost(0, 0)


def cost_of(request: Prepared, model: ModelInfo) -> Cost:
    """Returns the cost of a complete request to a model."""
    params, shape = request.params, model.config.shape
    answers, moments = request.task.answers(params), len(request.trace)
    weight = weight_of(model.config) if request.task.enlarges else 1
    text = TEXT_BYTES + len(params.spacing) + NUMBER_BYTES * (params.steps + 2 * params.n)
    probes = model.probes if is_probed(request.task) else ()
    longest = {name: (value,) for name, value in sorted(probes, key=lambda probe: len(json.dumps(probe)))}
    conditions = params.conditions or longest  # that a worker may find
    sizes = {name: len(json.dumps(values)) for name, values in conditions.items()}
    # in the images, and in the manifest; a condition has one value for all images, or one for each
    of_images = sum(params.n // len(values) * sizes[name] for name, values in conditions.items())
    film = BASE64 * film_bytes(params.steps, shape)
    images = answers * int(_png_bytes(model.final_shape, request.bits) + film + text)
    state = params.n * trace_bytes(shape) // 2  # x_t of all images
    trace = moments * (MOMENT_FACTS + 2 * state) + (state if moments else 0)
    uploads = sum(len(each.file) for each in request.uploads)
    pictures = PICTURE_BYTES * len(request.images)
    stored = (
        uploads + images + text + pictures + int((1 + BASE64) * of_images) + trace + (ARRAYS_BYTES if moments else 0)
    )
    record = text + pictures + sum(sizes.values())
    return Cost(weight * request.image_steps, stored + KEPT_TWICE * record)


def _png_bytes(shape: Sequence[int], bits: int) -> float:
    """Returns the most bytes of an image of shape (C, H, W), as it is stored.

    A PNG of noise has its pixels, a byte for each row of each plane, and up to a hundredth more.
    """
    channels, height, width = shape
    return 1.01 * BASE64 * channels * height * (width * bits // 8 + 1)
