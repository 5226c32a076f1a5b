"""The server's endpoints for images, in this process, so that many requests can share a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from jobs.catalog import read_catalog
from jobs.contract import new_job
from jobs.kinds import KINDS
from model import load_checkpoint
from model.images import from_png
from training.data.images import ImageArray
from worker.engine.local import run_jobs
from worker.stepping.runner import Runner

from .classical import Images

SLOTS = 8


class LocalEndpoints:
    """The endpoints that take images, in this process.

    Args:
        folder: the checkpoint's folder.
    """

    def __init__(self, folder: Path) -> None:
        checkpoint = load_checkpoint(folder)
        self.model = read_catalog(folder.parent).models[folder.name]
        self._runner = Runner(checkpoint, device=torch.device("cpu"), slots=SLOTS)
        self.image_steps = 0

    def denoise(self, images: Images, **query: Any) -> list[ImageArray]:
        """Does POST /denoise; returns the first image of each answer."""
        return [answers[0] for answers in self._answer("denoise", query, ({"image": image} for image in images))]

    def restore(self, images: Images, mask: ImageArray | None = None, **query: Any) -> list[ImageArray]:
        """Does POST /restore with one mask for all; returns the first image of each answer."""
        masks = {} if mask is None else {"mask": mask}
        return [answers[0] for answers in self._answer("restore", query, ({"image": each, **masks} for each in images))]

    def upscale(self, images: Images, **query: Any) -> list[ImageArray]:
        """Does POST /upscale; returns the first image of each answer."""
        return [answers[0] for answers in self._answer("upscale", query, ({"image": image} for image in images))]

    def interpolate(self, pairs: Sequence[Images], shares: Sequence[float], **query: Any) -> list[list[ImageArray]]:
        """Does POST /interpolate; returns a strip for each pair."""
        sent = ({"image_a": a, "image_b": b} for a, b in pairs)
        return self._answer("interpolate", {"lambda": list(shares), **query}, sent)

    def _answer(
        self, name: str, query: dict[str, Any], sent: Iterable[dict[str, ImageArray]]
    ) -> list[list[ImageArray]]:
        """Makes all answers together, as a worker with as many jobs in flight makes them."""
        kind = KINDS[name]
        asked = kind.query.model_validate({"seed": 0, **query})
        draft = kind.draft(asked, self.model)
        jobs = []
        for arrays in sent:
            images = {part: draft.fits[part](Image.fromarray(array)) for part, array in arrays.items()}
            prepared = draft.complete(images)
            jobs.append((new_job(self.model.name, prepared), [from_png(image.png) for image in prepared.images]))
        self.image_steps += sum(job.image_steps for job, _ in jobs)
        return [[np.asarray(Image.open(BytesIO(png))) for png in pngs] for pngs in run_jobs(self._runner, jobs)]
