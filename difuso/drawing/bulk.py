"""Many images in one .npz file, as ADM's evaluator reads it.

    query ─▶ Bulk ─▶ chunks, one run each ─▶ parts, one file each ─▶ the .npz file

Each chunk is either on disk or still to be drawn, so an interrupted command continues. The seed and the class of image
i depend on i only, so the file is the same however often the command was interrupted.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.params import MAX_SEED, SamplingParams
from jobs.per_image import classes_of, draw_seed, image_count, label_in_turn, one_or_several
from jobs.queries import SamplingQuery
from jobs.told import named_values, read_told
from model.folders.config import Precision

from ..errors import UserError, user_errors
from ..progress import image_progress, title_of
from .bulk_parts import LabelArray, Parts
from .drawing import DrawingModel
from .sampling import check_place

CHUNK = 32  # images of a part: a full batch on a GPU


@dataclass(frozen=True)
class Bulk:
    """All that determines the images of a file."""

    # model, sha256: the name of the checkpoint, and the SHA-256 of its weights
    model: str
    sha256: str
    shape: tuple[int, int, int]  # the shape (H, W, C) of an image
    count: int  # the number of images
    # the parameters of all images, except their number and classes; image i has the seed params.seed_of(i), and the
    # conditions params.told_of(i)
    params: SamplingParams
    labels: tuple[int, ...]  # image i has the class labels[i % len(labels)]; empty if none has a class
    precision: Precision = "float32"  # the number format of the network's calls

    @property
    def chunks(self) -> range:
        """The numbers of all chunks."""
        return range(-(-self.count // CHUNK))

    def images(self, chunk: int) -> range:
        """Returns the numbers of a chunk's images."""
        return range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.count))

    def label_array(self) -> LabelArray | None:
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
                name: told if len(told) == 1 else tuple(told[i] for i in images)
                for name, told in self.params.conditions.items()
            },
        }
        return self.params.model_copy(update=own)

    def facts(self) -> dict[str, Any]:
        """Returns all attributes as JSON."""
        params = self.params.model_dump(mode="json", exclude={"n", "label"})
        model = {"model": self.model, "sha256": self.sha256, "shape": list(self.shape), "precision": self.precision}
        return {**model, "n": self.count, "labels": list(self.labels), **params}


def make_file(out: Path, query: SamplingQuery, model: DrawingModel) -> Path:
    """Draws all images of a query into an .npz file, or those of them that are missing; returns its path.

    Raises UserError if the model cannot draw them, the file exists or cannot be written, or the parts next to it are of
    another request.
    """
    check_place(out)
    if out.exists():
        raise UserError(f"{out} exists: delete it, or name another file")
    parts = Parts(out.with_name(f"{out.name}.parts"))
    try:
        with user_errors():
            bulk = bulk_of(query, model, kept_seed=parts.request().get("seed"))
            parts.begin(bulk.facts())
            _draw_missing(bulk, model, parts)
        parts.write_npz(out, bulk.chunks, shape=(bulk.count, *bulk.shape), labels=bulk.label_array())
    except OSError as error:  # the disk is full, or nobody may write there
        raise UserError(f"{out}: {error.strerror}") from error
    return out


def bulk_of(query: SamplingQuery, model: DrawingModel, *, kept_seed: Any = None) -> Bulk:
    """Completes a request for many images. Without a seed it has the kept one if that is an integer, or a drawn one.

    Raises RequestRefused, PlanError or UserError if the model cannot do what is asked.
    """
    seeds = query.seed or ([kept_seed] if isinstance(kept_seed, int) else draw_seed())
    labels = classes_of(query.label, model.class_names, count=model.labels, model=model.name)
    told = read_told(named_values(query.condition), model.conditions, model=model.name)
    if missing := [name for name, each in model.conditions.items() if each.is_image and not each.null]:
        raise UserError(f"{model.name} needs images, {', '.join(missing)}: draw at most 64 images, into a folder")
    values = {name: len(each) for name, each in told.items()}
    count = image_count(seeds, query.label, n=query.n, turns=len(labels), values=values)
    if len(seeds) == 1 and seeds[0] + count - 1 > MAX_SEED:
        raise UserError(f"--seed must be at most {MAX_SEED - count + 1} for {count} images, not {seeds[0]}")
    one = [f"{name}:{each[0] if isinstance(each[0], str) else json.dumps(each[0])}" for name, each in told.items()]
    first = {"n": 1, "seed": seeds[:1], "label": query.label and query.label[:1], "condition": one}
    of_all = {"seed": one_or_several(seeds), "conditions": told}
    params = model.settle(query.model_copy(update=first)).model_copy(update=of_all)
    return Bulk(
        model=model.name,
        sha256=model.sha256,
        shape=model.shape.hwc,
        count=count,
        params=params,
        labels=labels,
        precision=model.precision,
    )


def _draw_missing(bulk: Bulk, model: DrawingModel, parts: Parts) -> None:
    missing = parts.missing(bulk.chunks)
    there = bulk.count - sum(len(bulk.images(chunk)) for chunk in missing)

    def keep(number: int, pngs: Sequence[bytes]) -> None:
        nonlocal there
        parts.keep(missing[number], pngs, bulk.shape)
        there += len(pngs)
        show(there)

    with image_progress(title_of(bulk.model, bulk.params.seed), bulk.count, there) as show:
        try:
            model.draw(map(bulk.run, missing), keep)
        except UserError as error:
            if not there:
                parts.delete()
                raise
            kept = f"{there} of {bulk.count} images are kept in {parts.folder}"
            raise UserError(f"{str(error).removesuffix('.')}. {kept}; the same command continues from there") from error
