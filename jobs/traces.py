"""Traces: the moments of its images' trajectories that a job keeps, named by the network calls before them."""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from model.plans.settings import MOST_STEPS

from .errors import RequestRefused

ALL, LAST = "all", "last"
MAX_MOMENTS = 64
MAX_BYTES = 64 << 20  # of the floats of all images

# One of the `trace` of a request.
MomentName = Annotated[str, Field(pattern=rf"^({ALL}|{LAST}|[1-9][0-9]{{0,6}})$")]


def _rising(calls: tuple[int, ...]) -> tuple[int, ...]:
    if any(before >= after for before, after in itertools.pairwise(calls)):
        raise ValueError("the calls of a trace must rise")
    return calls


# The `trace` of a job: the numbers of its network calls, from 1 on.
Trace = Annotated[
    tuple[Annotated[int, Field(ge=1, le=MOST_STEPS)], ...], Field(max_length=MAX_MOMENTS), AfterValidator(_rising)
]


def trace_of(names: Sequence[str], steps: int) -> tuple[int, ...]:
    """Returns the network calls, of `steps` for each image, that names stand for, sorted and each once."""
    calls: set[int] = set()
    for name in names:
        calls |= {*range(1, steps + 1)} if name == ALL else {steps if name == LAST else int(name)}
    return tuple(sorted(calls))


def moment_bytes(shape: tuple[int, int, int]) -> int:
    """Returns the bytes of one moment of one image of shape (C, H, W): x_t and the prediction, in float32."""
    return 2 * 4 * math.prod(shape)


def check_trace(calls: Sequence[int], *, n: int, steps: int, shape: tuple[int, int, int]) -> None:
    """Raises RequestRefused if a job cannot keep these moments, or not so many; the message says how many.

    Args:
        calls: the numbers of network calls, rising.
        n: the number of images that are drawn, each in `steps` network calls.
        shape: the shape (C, H, W) of an image.
    """
    if not calls:
        return
    if calls[-1] > steps:
        raise RequestRefused("trace", f"Input should name calls 1 to {steps}, the steps of this run")
    single = moment_bytes(shape)
    most = min(MAX_MOMENTS, MAX_BYTES // (n * single))
    if len(calls) > most:
        raise RequestRefused(
            "trace",
            f"Input should name at most {most} calls with n={n}, not {len(calls)}: a job keeps {MAX_MOMENTS} moments "
            f"of each image, and {MAX_BYTES >> 20} MiB in all, which are {MAX_BYTES // single} moments of this size",
        )
