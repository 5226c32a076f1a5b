"""What a finished job can be answered as: one row for each format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from jobs.contract import Manifest

from .render import animation, archive, message, sheet

# From the manifest, the images and the two between which they lie, if they do, to the body and its type's parameters.
Encoder = Callable[[Manifest, list[bytes], Sequence[bytes]], tuple[bytes, str]]


class Format(StrEnum):
    """A media type, and all that there is to say about it. Of equals an Accept header means the last.

    Attributes:
        extension: of a file's name.
        words: what it is, for the documentation.
        render: makes the body; None where the answer is the job itself.
        by_wildcard: whether a `*` in an Accept header may mean it.
    """

    extension: str
    words: str
    render: Encoder | None
    by_wildcard: bool

    def __new__(
        cls, media_type: str, extension: str, words: str, render: Encoder | None, by_wildcard: bool = True
    ) -> Format:
        form = str.__new__(cls, media_type)
        form._value_ = media_type
        form.extension, form.words, form.render, form.by_wildcard = extension, words, render, by_wildcard
        return form

    # Browsers list image/apng beside everything else that they can show, and do not mean to ask for an animation.
    APNG = "image/apng", "png", "an animation, there and back", animation, False
    JSON = "application/json", "json", "the finished job", None
    MULTIPART = "multipart/mixed", "mime", "the images and a manifest, as parts", message
    ZIP = "application/zip", "zip", "the images and a manifest, as files", archive
    PNG = "image/png", "png", "the image, or a contact sheet of several", sheet
