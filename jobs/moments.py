"""Moments: what a job keeps of its images on their way, named by the network calls before them.

A trace keeps x_t and the prediction x̂_0 as floats, after the calls that the request names. A film shows a dozen
predictions in a small size, side by side.
"""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from difuso.model.plans.settings import MOST_STEPS
from difuso.model.shape import Shape

from .errors import RequestRefused

ALL, LAST = "all", "last"
MAX_MOMENTS = 64  # of a trace
MAX_BYTES = 64 << 20  # of the floats of all images
FILM_MOMENTS = 12
FILM_SIDE = 64  # pixels of the longer side, at most

# One of the `trace` of a request.
MomentName = Annotated[str, Field(pattern=rf"^({ALL}|{LAST}|[1-9][0-9]{{0,6}})$")]


# The `trace` of a job: the numbers of its network calls, from 1 on, rising.
Trace = Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_STEPS)], ...], Field(max_length=MAX_MOMENTS)]


def trace_of(names: Sequence[str], steps: int) -> tuple[int, ...]:
    """Returns the network calls, of `steps` for each image, that names stand for, sorted and each once."""
    calls: set[int] = set()
    for name in names:
        calls |= {*range(1, steps + 1)} if name == ALL else {steps if name == LAST else int(name)}
    return tuple(sorted(calls))


def check_trace(calls: Sequence[int], *, n: int, steps: int, shape: tuple[int, int, int]) -> None:
    """Raises RequestRefused if a job of `n` images of shape (C, H, W) cannot keep these rising calls, or so many."""
    if not calls:
        return
    if calls[-1] > steps:
        raise RequestRefused("trace", f"Input should name calls 1 to {steps}, the steps of this run")
    single = trace_bytes(shape)
    most = min(MAX_MOMENTS, MAX_BYTES // (n * single))
    if len(calls) > most:
        raise RequestRefused(
            "trace",
            f"Input should name at most {most} calls with n={n}, not {len(calls)}: a job keeps {MAX_MOMENTS} moments "
            f"of each image, and {MAX_BYTES >> 20} MiB in all, which are {MAX_BYTES // single} moments of this size",
        )


def film_calls(steps: int) -> tuple[int, ...]:
    """Returns the network calls, counted from 1, whose predictions a film shows: spread evenly, the last among them.

    A run of one call has no film: its prediction is the image.
    """
    if steps < 2:
        return ()
    shown = min(steps, FILM_MOMENTS)
    return tuple(1 + round(index * (steps - 1) / (shown - 1)) for index in range(shown))


def kept_calls(trace: Sequence[int], steps: int) -> dict[int, bool]:
    """Returns the network calls of a run of `steps` after which a moment is kept, and whether the trace names each."""
    return dict.fromkeys(film_calls(steps), False) | dict.fromkeys(trace, True)


def film_size(height: int, width: int) -> tuple[int, int]:
    """Returns the height and width of each moment of a film: those of the image, or smaller in the same ratio."""
    scale = min(1.0, FILM_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def trace_bytes(shape: tuple[int, int, int]) -> int:
    """Returns the bytes of a traced moment of an image of shape (C, H, W), x_t and x0 in float32; x_start has half."""
    return 2 * 4 * math.prod(shape)


def film_bytes(steps: int, shape: Shape) -> int:
    """Returns the most bytes of the film of an image of shape (C, H, W).

    A lossy WebP of random black and white in each channel has 1.7 bytes a pixel (`tests/unit/worker/test_films.py`).
    """
    height, width = film_size(shape.height, shape.width)
    line = shape.planes > 1
    return 512 + 2 * len(film_calls(steps)) * shape.planes * (height + line) * (width + line)
