"""The formats of a finished job, one row each: a PNG or contact sheet, an animation, arrays, or a zip; and of films."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from difuso.jobs.contract import Manifest
from difuso.jobs.images.fitting import DEEP, DEEP_WHITE, in_eight_bits
from difuso.jobs.images.npz import IMAGES, encode_npy, encode_npz, image_arrays, pixels_of
from difuso.jobs.moments import film_size
from difuso.model.pictures import as_pictures, picture_of
from difuso.model.png import PNG_KEY
from difuso.model.shape import Shown

SHEET_GAP = 2  # pixels
FRAME_MILLISECONDS = 200
FILM_MILLISECONDS, FILM_END_MILLISECONDS = 110, 1500  # of each moment, and of the image
FILM_WIDE = 256  # pixels that the animation of a film has at least on its longer side
SHEET_COLOUR = "white"


@dataclass(frozen=True)
class Result:
    """The result of a finished job."""

    manifest: Manifest
    pngs: list[bytes]  # its images
    ends: Sequence[bytes] = ()  # the two images between which they lie; none unless the job interpolates between images
    trace: bytes | None = None  # its trace as an .npz file; None if there is none to show

    @property
    def course(self) -> list[bytes]:
        """Its images between the two ends, if there are any."""
        return [*self.ends[:1], *self.pngs, *self.ends[1:]]


def describe(manifest: Manifest) -> dict[str, Any]:
    """Returns what is needed to make the images again, and the warnings: equal requests get equal bytes."""
    job = manifest.job
    images = [
        {
            "file": f"{index}.png",
            "seed": image.seed,
            **({"label": job.params.label_of(index)} if isinstance(job.params.label, tuple) else {}),
            **({"conditions": job.params.conditions_of(index)} if job.params.conditions_differ else {}),
            "sha256": image.sha256,
        }
        for index, image in enumerate(manifest.images)
    ]
    return {
        "kind": job.kind,
        **({"task": job.task.model_dump()} if job.task.has_parameters else {}),
        **({"pictures": [image.model_dump() for image in job.pictures]} if job.pictures else {}),
        "model": job.model,
        **dict(zip(("version", "upscaler_version"), job.versions, strict=False)),
        **({} if manifest.precision == "float32" else {"precision": manifest.precision}),
        **({"bits": job.bits} if job.bits != 8 else {}),
        "params": job.params.model_dump(),
        "timesteps": manifest.timesteps,
        **({"warnings": [each.model_dump() for each in job.warnings]} if job.warnings else {}),
        "images": images,
    }


def sheet(made: Result) -> bytes:
    """Returns a single image unchanged, several as a contact sheet, and a passage as a row between its ends."""
    if len(made.pngs) == 1:
        return made.pngs[0]
    job = made.manifest.job
    images = [_with_bits(Image.open(io.BytesIO(png)), job.bits) for png in made.course]
    canvas = _side_by_side(images, len(images) if job.task.is_sequence else _columns(len(images)))
    file = io.BytesIO()
    canvas.save(file, "PNG", pnginfo=_text(made.manifest))
    return file.getvalue()


def _with_bits(image: Image.Image, bits: int) -> Image.Image:
    """Returns an image with the bits of its job; those of a request may have others."""
    if bits == 16 and image.mode != DEEP:
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return in_eight_bits(image) if bits == 8 else image


def _columns(count: int) -> int:
    """Returns the columns of a sheet near a square; up to 2.5 times as wide as high, if then no place is empty."""
    square = math.ceil(math.sqrt(count))
    return next((each for each in range(square, count) if each**2 <= 2.5 * count and count % each == 0), square)


def _side_by_side(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Returns images of equal size in rows, with gaps between them."""
    width, height = images[0].size
    rows = math.ceil(len(images) / columns)
    size = columns * (width + SHEET_GAP) - SHEET_GAP, rows * (height + SHEET_GAP) - SHEET_GAP
    mode = images[0].mode if images[0].mode in ("L", DEEP) else "RGB"
    canvas = Image.new(mode, size, DEEP_WHITE if mode == DEEP else SHEET_COLOUR)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        canvas.paste(image, (column * (width + SHEET_GAP), row * (height + SHEET_GAP)))
    return canvas


def animation(made: Result) -> bytes:
    """Returns the images as an animated PNG of 8 bits that runs forwards and backwards, for ever."""
    images = [in_eight_bits(Image.open(io.BytesIO(png))) for png in made.course]
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    frames = [image.convert(mode) for image in images]
    first, *others = frames + frames[-2:0:-1]
    file = io.BytesIO()
    first.save(
        file,
        "PNG",
        save_all=True,
        append_images=others,
        duration=FRAME_MILLISECONDS,
        loop=0,
        pnginfo=_text(made.manifest),
    )
    return file.getvalue()


def _text(manifest: Manifest) -> PngInfo:
    text = PngInfo()
    text.add_itxt(PNG_KEY, json.dumps(describe(manifest)))
    return text


def archive(made: Result) -> bytes:
    """Returns a zip of the images and the manifest."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        for index, png in enumerate(made.pngs):
            archive.writestr(zipfile.ZipInfo(f"{index}.png"), png)
        archive.writestr(zipfile.ZipInfo("manifest.json"), json.dumps(describe(made.manifest), indent=2))
    return file.getvalue()


def arrays(made: Result) -> bytes:
    """Returns an .npz file of the images, their classes, and the arrays of the trace."""
    job = made.manifest.job
    images = image_arrays(made.pngs, job.params, planes=job.planes)
    if made.trace is None:
        return encode_npz(images)
    with np.load(io.BytesIO(made.trace)) as kept:
        return encode_npz(images, kept)


def array(made: Result) -> bytes:
    """Returns a .npy file of the images alone."""
    job = made.manifest.job
    return encode_npy(image_arrays(made.pngs, job.params, planes=job.planes)[IMAGES])


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
    NPY = "application/x-npy", "npy", "the images, as one NumPy array", array
    NPZ = "application/x-npz", "npz", "the images and the trace, as NumPy arrays", arrays
    # Browsers list image/apng among all that they can show, without asking for an animation.
    APNG = "image/apng", "png", "an animation of the images", animation, False
    JSON = "application/json", "json", "the finished job", None
    ZIP = "application/zip", "zip", "the images and a manifest", archive
    PNG = "image/png", "png", "the image, or a contact sheet of several", sheet

    @classmethod
    def offered(cls, planes: int) -> list[Format]:
        """Returns the formats that can hold images of so many planes (`Shape.planes`); the last is the default."""
        return [*cls] if planes == 1 else [cls.JSON, cls.NPY, cls.NPZ]

    @property
    def shows_trace(self) -> bool:
        """Whether a trace of the job changes the body."""
        return self is Format.NPZ

    def entity_tag(self, manifest: Manifest) -> str:
        """Returns the ETag of a body without encoding it."""
        trace = manifest.job.trace if self.shows_trace else ()
        content = ",".join([self, *(image.sha256 for image in manifest.images), *map(str, trace)])
        return f'"{hashlib.sha256(content.encode()).hexdigest()}"'


class FilmFormat(StrEnum):
    """The media type of a film. If an Accept header prefers several equally, the last of them here is chosen."""

    APNG = "image/apng"
    GIF = "image/gif"
    WEBP = "image/webp"


def rendered_film(film: bytes, png: bytes, form: FilmFormat, *, planes: int = 1, shown: Shown | None = None) -> bytes:
    """Returns a film, stored as its moments side by side in WebP, in a format; an animation ends with the image, `png`.

    Images of several planes are pictures in it. Their pixels and those of moments become squares of equal size there.
    """
    if form is FilmFormat.WEBP:
        return film
    pixels = pixels_of(png, planes=planes)
    image = in_eight_bits(Image.open(io.BytesIO(png if planes == 1 else picture_of(pixels, shown))))
    strip = Image.open(io.BytesIO(film)).convert(image.mode)
    factor = -(-FILM_WIDE // max(image.size))
    size = (image.width * factor, image.height * factor)
    moment = np.zeros((1, *film_size(*pixels.shape[:2]), pixels.shape[2]), np.uint8)
    high, wide = as_pictures(moment, shown).shape[1:3]
    across = strip.height * wide // high  # `wide`, but in a cascade, which films a smaller square
    moments = [strip.crop((left, 0, left + across, strip.height)) for left in range(0, strip.width, across)]
    frames = [each.resize(size, Image.Resampling.NEAREST) for each in (*moments, image)]
    file = io.BytesIO()
    durations = [FILM_MILLISECONDS] * len(moments) + [FILM_END_MILLISECONDS]
    kind = "GIF" if form is FilmFormat.GIF else "PNG"
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return file.getvalue()


# The OpenAPI description of an answer with images. PNG is first: generated clients take the first type that they know.
FORMATS = f"The images, as Accept demands: {'; '.join(f'{form} is {form.description}' for form in reversed(Format))}"
BINARY = {"type": "string", "format": "binary"}  # of OpenAPI 3.0, but what generators of clients know
CONTENT: dict[str, dict[str, Any]] = {form.value: {"schema": BINARY} for form in reversed(Format)} | {
    Format.JSON: {"schema": {"$ref": "#/components/schemas/JobView"}}
}
