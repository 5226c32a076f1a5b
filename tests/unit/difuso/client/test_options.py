"""The client's types are written from the server's queries, by a test: the client needs none of the server's packages.

Editors and type checkers read the types without running code.
"""

import textwrap
from collections.abc import Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from difuso.app.routers.jobs import JobsQuery
from difuso.client import options
from difuso.jobs.kinds import KINDS
from difuso.jobs.queries import ImageQuery, SamplingQuery

FILE = Path(options.__file__)

# Where the client is more convenient than a query, or does not list what a registry of the server has.
TYPES = {
    "sampler": "str | None",
    "seed": "int | Sequence[int] | None",
    "label": "str | int | Sequence[str | int] | None",
    "guide": "str | Sequence[str] | None",
    "lambda": "float | Sequence[float]",
    "factor": "Literal[2, 4]",
    "bits": "Literal[8, 16]",
    "trace": "int | str | Sequence[int | str]",
    "state": "State | None",
    "kind": "KindName | None",
}
OPTIONAL_PARTS = {
    "mask": ("ImageLike | None", "image of the image's size, white where the image is missing; inpaint only"),
    "noise": (
        "NoiseLike | None",
        "noise x_T, (H, W, C) for all images or (N, H, W, C) for each; by default that of the seeds",
    ),
}
CONDITIONS = (
    "conditions",
    "Mapping[str, ConditionValue | Sequence[ConditionValue] | None] | None",
    "values of the model's conditions by name, one for all images or one for each; images of conditions, too",
)
HEAD = '''"""The parameters of requests, for editors and type checkers; docs/http-api.md describes them.

`tests/unit/difuso/client/test_options.py` writes this file from the server's own queries (`jobs.kinds`,
`app.routers.jobs`) whenever they have changed.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Required, TypedDict

from .images import ImageLike, NoiseLike
from .results import State

# Without `from __future__ import annotations`: Python 3.11 does not see Required in a string.

KindName = Literal[{names}]

# The images of each kind, by the names of their parts; those of a method's signature come first.
IMAGES: dict[KindName, tuple[str, ...]] = {{
{images}
}}

ConditionValue = str | float | Sequence[float] | ImageLike
"""The value of a condition: the name of a choice, a number, the numbers of a vector, an image, a map or a sequence."""


class Headers(TypedDict, total=False):
    """The parameters that a request sends as headers."""

    idempotency_key: str
    """Name of this request: repeated with the same name it finds the same job; by default a new one."""
    urgency: int
    """Urgency of the job, 0 (first) to 7 (last); by default 3."""
'''

Entry = tuple[str, str, str]  # the name, the type and the description of a parameter


def written() -> str:
    """Returns the text of the file."""
    images = {name: kind.required + kind.optional for name, kind in KINDS.items()}
    head = HEAD.format(
        names=", ".join(f'"{name}"' for name in KINDS),
        images="\n".join(f'    "{name}": {_tuple(parts)},' for name, parts in images.items()),
    )
    about = "Parameters of every kind of job; one that is absent or None has the default of the model."
    shared = [CONDITIONS if entry[0] == "condition" else entry for entry in entries(SamplingQuery)]
    parts = [
        head,
        _class("Sampling(Headers, total=False)", about, shared),
        _class(
            "WithImages(Sampling, total=False)",
            "Parameters of every kind of job that takes images.",
            entries(ImageQuery, but=SamplingQuery.model_fields),
        ),
    ]
    for name, kind in KINDS.items():
        base = ImageQuery if issubclass(kind.query, ImageQuery) else SamplingQuery
        parts_of_kind = [(part, *OPTIONAL_PARTS[part]) for part in kind.optional]
        own = [*entries(kind.query, but=base.model_fields), *parts_of_kind]
        parent = "WithImages" if base is ImageQuery else "Sampling"
        parts.append(_class(f"{name.title()}({parent}, total=False)", f"Parameters of POST /{name}.", own))
    filters = entries(JobsQuery, but=("limit", "cursor"))
    parts.append(_class("Filters(TypedDict, total=False)", "The properties that all jobs of a list share.", filters))
    return "\n\n".join(parts)


def entries(query: type[BaseModel], *, but: Collection[str] = ()) -> list[Entry]:
    """Returns the parameters of a query, by their names over HTTP, except some."""
    hints, found = get_type_hints(query), []
    for name, field in query.model_fields.items():
        sent = field.alias or name
        if name not in but:
            kind = TYPES.get(sent) or type_text(hints[name])
            found.append((sent, f"Required[{kind}]" if field.is_required() else kind, field.description or ""))
    return found


def type_text(hint: Any) -> str:
    """Returns a type as Python writes it."""
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(map(type_text, get_args(hint)))
    if get_origin(hint) is Literal:
        return f"Literal[{', '.join(map(_quoted, get_args(hint)))}]"
    return "None" if hint is NoneType else str(hint.__name__)


def _class(head: str, about: str, members: list[Entry]) -> str:
    lines = [f"class {head}:", f'    """{about}"""', ""]
    for name, kind, description in members:
        words = f'"""{description[:1].upper()}{description[1:]}."""'
        lines += [f"    {name}{'_' if name == 'lambda' else ''}: {kind}"]
        lines += textwrap.wrap(words, 120, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _tuple(names: Collection[str]) -> str:
    return f"({', '.join(map(_quoted, names))}{',' if len(names) == 1 else ''})"


def _quoted(text: str) -> str:
    return f'"{text}"'


def test_the_options_are_written_from_the_queries() -> None:
    text = written()
    if FILE.read_text("utf-8") != text:
        FILE.write_text(text, "utf-8")
        pytest.fail("difuso/client/options.py did not have the parameters of the queries: it is written anew")
