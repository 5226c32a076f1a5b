"""What a request asks for although its model has never seen it: that is drawn all the same, with a warning."""

from collections.abc import Iterable
from typing import Literal

from difuso.model.folders.never import Never, combinations_in, named

from .conditions import Values
from .values import Frozen

MAX_WARNINGS = 64  # of a job


class JobWarning(Frozen):
    """What a client should know about the images: a code for programs, a sentence for people."""

    code: Literal["never-seen-together"] = "never-seen-together"
    detail: str


def never_seen(asked: Iterable[Values], never: Never, *, model: str) -> tuple[JobWarning, ...]:
    """Returns a warning for each combination in the values that are asked for that a model declares never seen."""
    rows = (
        {name: each[index % len(each)] for name, each in values.items()}
        for values in asked
        for index in range(max(map(len, values.values()), default=0))
    )
    found = dict.fromkeys(named(each) for row in rows for each in combinations_in(never, row))
    details = [f"{model} has never seen {each}: the images may show something else" for each in found]
    return tuple(JobWarning(detail=detail) for detail in details[:MAX_WARNINGS])
