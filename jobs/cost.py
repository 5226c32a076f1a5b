"""The cost of a request against the limits of its owner: work, and room in the result store."""

from collections.abc import Sequence
from dataclasses import dataclass

from .cascade import weight_of
from .catalog import ModelInfo
from .films import film_bytes
from .params import SamplingParams
from .traces import moment_bytes

# The most bytes in addition to the numbers, each several times the largest size ever seen.
TEXT_BYTES = 4096  # the description of a job in an image or a manifest, in addition to the parts counted here
NUMBER_BYTES = 24  # a timestep, a seed or a class, as text
ARRAYS_BYTES = 4096  # names and headers of the arrays of a trace
BASE64 = 4 / 3  # in which small images and films are stored
MOMENT_FACTS = 16  # timestep and alphas_cumprod of a moment, float64


@dataclass(frozen=True)
class Cost:
    """The cost of a request."""

    image_steps: int  # the work in image-steps. A call of a model that enlarges an image counts more, as in a cascade.
    # the most bytes that the request leaves in the store: its uploads, its images with their films, and its trace
    stored_bytes: int


NOTHING = Cost(0, 0)


def cost_of(
    params: SamplingParams,
    model: ModelInfo,
    *,
    image_steps: int,
    enlarges: bool,
    answers: int,
    bits: int,
    moments: int,
    uploads: Sequence[bytes],
) -> Cost:
    """Returns the cost of a complete request to a model.

    Args:
        image_steps: the network calls of all images.
        enlarges: whether each image begins at one that it enlarges.
        answers: the number of images that are stored, each with `bits` in a value.
        moments: the number of moments of its trace.
    """
    weight = weight_of(model.config) if enlarges else 1
    text = TEXT_BYTES + len(params.spacing) + NUMBER_BYTES * (params.steps + 2 * params.n)
    film = 0 if model.config.shape.planes > 1 else BASE64 * film_bytes(params.steps, model.config.shape)
    images = answers * int(_png_bytes(model.final_shape, bits) + film + text)
    trace = moments * (MOMENT_FACTS + params.n * moment_bytes(model.config.shape))
    stored_bytes = sum(map(len, uploads)) + images + text + trace + (ARRAYS_BYTES if moments else 0)
    return Cost(weight * image_steps, stored_bytes)


def _png_bytes(shape: Sequence[int], bits: int) -> float:
    """Returns the most bytes of an image of shape (C, H, W), as it is stored.

    A PNG of noise has its pixels, a byte for each row of each plane, and up to a hundredth more.
    """
    channels, height, width = shape
    return 1.01 * BASE64 * channels * height * (width * bits // 8 + 1)
