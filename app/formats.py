"""The formats of a finished job: one row each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from difuso.jobs.contract import Manifest

from .encoders import Result, animation, archive, arrays, sheet


class Format(StrEnum):
    """A media type and its encoder. If an Accept header prefers several equally, the last of them here is chosen."""

    extension: str  # the extension of file names
    description: str  # a description for the documentation
    render: Callable[[Result], bytes] | None  # the function that makes the body; None if the answer is the job as JSON
    by_wildcard: bool  # whether a `*` in an Accept header includes this format

    def __new__(
        cls,
        media_type: str,
        extension: str,
        description: str,
        render: Callable[[Result], bytes] | None,
        by_wildcard: bool = True,
    ) -> Format:
        form = str.__new__(cls, media_type)
        form._value_ = media_type
        form.extension, form.description, form.render = extension, description, render
        form.by_wildcard = by_wildcard
        return form

    # A `*` leads to the last, so that this one is sent to those who name it.
    NPZ = "application/x-npz", "npz", "the images and the trace, as NumPy arrays", arrays
    # Browsers list image/apng among all that they can show, without asking for an animation.
    APNG = "image/apng", "png", "an animation of the images", animation, False
    JSON = "application/json", "json", "the finished job", None
    ZIP = "application/zip", "zip", "the images and a manifest", archive
    PNG = "image/png", "png", "the image, or a contact sheet of several", sheet

    @classmethod
    def offered(cls, planes: int) -> list[Format]:
        """Returns the formats that can hold images of so many planes (`Shape.planes`); the last is the default."""
        return [*cls] if planes == 1 else [cls.JSON, cls.NPZ]

    @property
    def shows_trace(self) -> bool:
        """Whether a trace of the job changes the body."""
        return self is Format.NPZ

    def entity_tag(self, manifest: Manifest) -> str:
        """Returns the ETag of a body without encoding it."""
        trace = manifest.job.trace if self.shows_trace else ()
        content = ",".join([self, *(image.sha256 for image in manifest.images), *map(str, trace)])
        return f'"{hashlib.sha256(content.encode()).hexdigest()}"'


# The OpenAPI description of an answer with images. PNG is first: generated clients take the first type that they know.
FORMATS = f"The images, as Accept demands: {'; '.join(f'{form} is {form.description}' for form in reversed(Format))}"
BINARY = {"type": "string", "format": "binary"}  # of OpenAPI 3.0, but what generators of clients know
CONTENT: dict[str, dict[str, Any]] = {form.value: {"schema": BINARY} for form in reversed(Format)} | {
    Format.JSON: {"schema": {"$ref": "#/components/schemas/JobView"}}
}
