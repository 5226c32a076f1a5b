"""Many images in one file: .npz, as ADM's evaluator reads it, or .npy without their classes.

    query ─▶ Bulk ─▶ chunks, one run each ─▶ parts, one file each ─▶ the file

Each chunk is either on disk or still to be drawn, so an interrupted command continues. The seed and the class of image
i depend on i only, so the file is the same however often the command was interrupted.
"""

import io
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from difuso.jobs.conditions import read_values
from difuso.jobs.images.npz import IMAGES, LABELS, NpzWriter, pixels_of, write_npy
from difuso.jobs.never_seen import never_seen
from difuso.jobs.params import MAX_SEED, SamplingParams
from difuso.jobs.per_image import classes_of, draw_seed, image_count, label_in_turn, one_or_several
from difuso.jobs.queries import SamplingQuery

from ..errors import UserError, user_errors
from ..progress import progress, title_of
from .drawing import DrawingModel
from .sampling import NPY, check_place, write_whole

log = logging.getLogger(__name__)

CHUNK = 32  # images of a part: a full batch on a GPU
REQUEST = "request.json"  # in the folder of the parts


@dataclass(frozen=True)
class Bulk:
    """All that determines the images of a file."""

    model: DrawingModel
    count: int  # the number of images
    # the parameters of all images, except their number and classes; image i has the seed params.seed_of(i), and the
    # conditions params.conditions_of(i)
    params: SamplingParams
    labels: tuple[int, ...]  # image i has the class labels[i % len(labels)]; empty if none has a class
    files: Mapping[str, bytes] = field(default_factory=dict)  # of the conditions, by their SHA-256

    @property
    def chunks(self) -> range:
        """The numbers of all chunks."""
        return range(-(-self.count // CHUNK))

    def images(self, chunk: int) -> range:
        """Returns the numbers of a chunk's images."""
        return range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.count))

    def label_array(self) -> npt.NDArray[np.int64] | None:
        """Returns the classes of all images; None if they have none."""
        return np.resize(np.array(self.labels, "<i8"), self.count) if self.labels else None

    def run(self, chunk: int) -> SamplingParams:
        """Returns the run that draws a chunk."""
        images, seed = self.images(chunk), self.params.seed
        own = {
            "n": len(images),
            "seed": seed + images.start if isinstance(seed, int) else one_or_several([seed[i] for i in images]),
            "label": label_in_turn(self.labels, images),
            "conditions": {
                name: values if len(values) == 1 else tuple(values[i] for i in images)
                for name, values in self.params.conditions.items()
            },
        }
        return self.params.model_copy(update=own)

    def facts(self) -> dict[str, Any]:
        """Returns all of it as JSON."""
        model = self.model
        return {
            "model": model.name,
            "version": model.loaded.version,
            "shape": list(model.shape.hwc),
            "precision": model.loaded.precision,
            "n": self.count,
            "labels": list(self.labels),
            **self.params.model_dump(mode="json", exclude={"n", "label"}),
        }


class Parts:
    """The chunks that are there, in a folder next to the file; each is there as a whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def request(self) -> dict[str, Any]:
        """Returns the request of the parts; empty if there is none. Raises UserError if it cannot be read."""
        path = self.folder / REQUEST
        try:
            request: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{path} cannot be read: delete {self.folder}, or name another file") from error
        return request

    def begin(self, request: Mapping[str, Any]) -> None:
        """Makes the folder, or continues with it; raises UserError if it holds parts of another request."""
        if self.request() == request:
            return
        if self.folder.exists() and any(path.name != REQUEST and path.name[0] != "." for path in self.folder.iterdir()):
            raise UserError(
                f"{self.folder} holds images of another request: repeat that one, delete the folder, or name another "
                "file"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / REQUEST, json.dumps(request, indent=2).encode() + b"\n")

    def path(self, chunk: int) -> Path:
        """Returns the path of a chunk."""
        return self.folder / f"{chunk:06}.npy"

    def keep(self, chunk: int, pngs: Sequence[bytes], model: DrawingModel) -> None:
        """Writes the images of a chunk."""
        file = io.BytesIO()
        np.save(file, np.stack([pixels_of(png, planes=model.shape.planes).reshape(model.shape.hwc) for png in pngs]))
        write_whole(self.path(chunk), file.getvalue())

    def write(self, out: Path, bulk: Bulk) -> None:
        """Writes the file of all chunks, and deletes the parts."""
        whole = self.folder / f"whole{out.suffix}"
        pieces = (np.load(self.path(chunk)) for chunk in bulk.chunks)
        images = (bulk.count, *bulk.model.shape.hwc), np.dtype(np.uint8), pieces
        if out.suffix == NPY:
            with whole.open("wb") as plain:
                write_npy(plain, *images)
        else:
            with NpzWriter(whole) as file:
                file.add(IMAGES, *images)
                if (labels := bulk.label_array()) is not None:
                    file.add(LABELS, labels.shape, labels.dtype, [labels])
        with whole.open("rb") as written:
            os.fsync(written.fileno())  # before its parts are deleted
        whole.replace(out)
        shutil.rmtree(self.folder)


def make_file(out: Path, query: SamplingQuery, model: DrawingModel) -> Path:
    """Draws all images of a query into a file, or those of them that are missing; returns its path.

    Raises UserError if the model cannot draw them, the file exists or cannot be written, or the parts next to it are of
    another request.
    """
    check_place(out)
    if out.exists():
        raise UserError(f"{out} exists: delete it, or name another file")
    parts = _parts_of(out)
    with user_errors():
        bulk = bulk_of(query, model, kept_seed=parts.request().get("seed"))
    for warning in never_seen([bulk.params.conditions], model.never, model=model.name):
        log.warning(warning.detail)
    return draw_file(out, bulk)


def draw_file(out: Path, bulk: Bulk) -> Path:
    """Draws all images into a file, or those of them that are missing; returns its path.

    Raises UserError if the model cannot draw them, the file cannot be written, or the parts are of another request.
    """
    parts = _parts_of(out)
    try:
        parts.begin(bulk.facts())
        with user_errors():
            _draw_missing(bulk, parts)
        parts.write(out, bulk)
    except OSError as error:  # the disk is full, or nobody may write there
        raise UserError(f"{out}: {error.strerror}") from error
    return out


def _parts_of(out: Path) -> Parts:
    return Parts(out.with_name(f"{out.name}.parts"))


def bulk_of(query: SamplingQuery, model: DrawingModel, *, kept_seed: Any = None) -> Bulk:
    """Completes a request for many images. Without a seed it has the kept one if that is an integer, or a drawn one.

    Raises RequestRefused, PlanError or UserError if the model cannot do what is asked.
    """
    seeds = query.seed or ([kept_seed] if isinstance(kept_seed, int) else draw_seed())
    labels = classes_of(query.label, model.class_names, count=model.labels, model=model.name)
    given = read_values(query.conditions, model.conditions, model=model.name)
    if missing := model.needed_files:
        raise UserError(f"{model.name} needs files, {', '.join(missing)}: draw at most 64 images, into a folder")
    values = {name: len(each) for name, each in given.items()}
    count = image_count(seeds, query.label, n=query.n, turns=len(labels), values=values)
    if len(seeds) == 1 and seeds[0] + count - 1 > MAX_SEED:
        raise UserError(f"--seed must be at most {MAX_SEED - count + 1} for {count} images, not {seeds[0]}")
    one = {name: each[:1] for name, each in given.items()}
    first = {"n": 1, "seed": seeds[:1], "label": query.label and query.label[:1], "conditions": one}
    of_all = {"seed": one_or_several(seeds), "conditions": given}
    return Bulk(model, count, model.settle(query.model_copy(update=first)).model_copy(update=of_all), labels)


def _draw_missing(bulk: Bulk, parts: Parts) -> None:
    missing = [chunk for chunk in bulk.chunks if not parts.path(chunk).exists()]
    there = bulk.count - sum(len(bulk.images(chunk)) for chunk in missing)

    def keep(number: int, pngs: Sequence[bytes]) -> None:
        nonlocal there
        parts.keep(missing[number], pngs, bulk.model)
        there += len(pngs)
        show(there / bulk.count)

    title = f"{title_of(bulk.model.name, bulk.params.seed)}, {bulk.count} images"
    with progress(title, there=there / bulk.count) as show:
        try:
            bulk.model.draw(map(bulk.run, missing), keep, bulk.files)
        except UserError as error:
            if not there:
                shutil.rmtree(parts.folder)
                raise
            kept = f"{there} of {bulk.count} images are kept in {parts.folder}"
            raise UserError(f"{str(error).removesuffix('.')}. {kept}; the same command continues from there") from error
