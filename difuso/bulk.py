"""Many images in one .npz file, as ADM's evaluator reads it.

    query ─▶ Bulk ─▶ chunks ─▶ runs ─▶ parts, one file for each chunk ─▶ the .npz file

A chunk is on disk or will be drawn, so the command that was interrupted goes on. The seed and the class of image i
depend on i only, so that the file is the same however often it was interrupted.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from jobs.kinds.base import DRAWN_SEEDS, SamplingQuery
from jobs.params import MAX_SEED, SamplingParams

from .bulk_parts import LabelArray, Parts
from .drawing import DrawingModel, Runs
from .errors import UserError, user_errors
from .progress import image_progress

ALL = "all"  # the label that stands for every class in turn
CHUNK = 32  # images of a part: a full batch on a GPU


@dataclass(frozen=True)
class Bulk:
    """What decides about the images of a file.

    Attributes:
        model, sha256: the name of the checkpoint, and the SHA-256 of its weights.
        shape: the shape (H, W, C) of an image.
        count: the number of images.
        params: the parameters of image 0; image i has seed params.seed + i.
        labels: image i has the class labels[i % len(labels)]; empty if none has a class.
    """

    model: str
    sha256: str
    shape: tuple[int, int, int]
    count: int
    params: SamplingParams
    labels: tuple[int, ...]

    @property
    def chunks(self) -> range:
        """The numbers of all chunks."""
        return range(-(-self.count // CHUNK))

    def images(self, chunk: int) -> range:
        """Returns the numbers of a chunk's images."""
        return range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.count))

    def label(self, image: int) -> int | None:
        """Returns the class of an image."""
        return self.labels[image % len(self.labels)] if self.labels else None

    def label_array(self) -> LabelArray | None:
        """Returns the classes of all images; None if they have none."""
        return np.resize(np.array(self.labels, "<i8"), self.count) if self.labels else None

    def runs(self, chunk: int) -> list[SamplingParams]:
        """Returns the runs that draw a chunk, in the order of its images; all images of a run have one class."""
        runs = []
        for label, numbers in groupby(self.images(chunk), self.label):
            first, *others = numbers
            own = {"n": 1 + len(others), "seed": self.params.seed + first, "label": label}
            runs.append(self.params.model_copy(update=own))
        return runs

    def chunk_of(self, runs: Runs) -> int:
        """Returns the chunk that runs draw."""
        return (runs[0].seed - self.params.seed) // CHUNK

    def facts(self) -> dict[str, Any]:
        """Returns all attributes as JSON."""
        params = self.params.model_dump(mode="json", exclude={"n", "label"})
        model = {"model": self.model, "sha256": self.sha256, "shape": list(self.shape)}
        return {**model, "n": self.count, "labels": list(self.labels), **params}


def make_file(out: Path, query: SamplingQuery, model: DrawingModel) -> Path:
    """Draws `query.n` images into an .npz file, or those of them that are missing; returns its path.

    Raises:
        UserError: if the model cannot draw them, the file exists or cannot be written, or the parts beside it are of
            another request.
    """
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


def bulk_of(query: SamplingQuery, model: DrawingModel, *, kept_seed: int | None = None) -> Bulk:
    """Completes a request for many images.

    Args:
        kept_seed: the seed of a request without one; None draws it.

    Raises:
        RequestRefused, PlanError, UserError: if the model cannot do what is asked.
    """
    seed = next(each for each in (query.seed, kept_seed, secrets.randbelow(DRAWN_SEEDS)) if each is not None)
    if seed + query.n - 1 > MAX_SEED:
        raise UserError(f"--seed must be at most {MAX_SEED - query.n + 1} for {query.n} images, not {seed}")
    all_classes = query.label == ALL
    if all_classes and not model.labels:
        raise UserError(f"--label should be omitted: {model.name} has no classes")
    label = "0" if all_classes else query.label  # any class will do here: each image gets its own
    params = model.settle(query.model_copy(update={"n": 1, "seed": seed, "label": label}))
    only = () if params.label is None else (params.label,)
    return Bulk(
        model=model.name,
        sha256=model.sha256,
        shape=(model.image_size, model.image_size, model.channels),
        count=query.n,
        params=params,
        labels=tuple(range(model.labels)) if all_classes else only,
    )


def _draw_missing(bulk: Bulk, model: DrawingModel, parts: Parts) -> None:
    missing = parts.missing(bulk.chunks)
    there = bulk.count - sum(len(bulk.images(chunk)) for chunk in missing)

    def keep(runs: Runs, pngs: Sequence[bytes]) -> None:
        nonlocal there
        parts.keep(bulk.chunk_of(runs), pngs, bulk.shape)
        there += len(pngs)
        show(there)

    with image_progress(f"{bulk.model}, seed {bulk.params.seed}", bulk.count, there) as show:
        try:
            model.draw((bulk.runs(chunk) for chunk in missing), keep)
        except UserError as error:
            if not there:
                parts.delete()
                raise
            kept = f"{there} of {bulk.count} images are kept in {parts.folder}"
            raise UserError(f"{str(error).removesuffix('.')}. {kept}; the same command goes on from there") from error
