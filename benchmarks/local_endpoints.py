"""What a server does with images that it is sent, in this process, so that many can share a batch."""

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
        folder: of the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        checkpoint = load_checkpoint(folder)
        self.model = read_catalog(folder.parent).models[folder.name]
        self._runner = Runner(checkpoint, device=torch.device("cpu"), slots=SLOTS)
        self.image_steps = 0

    def denoise(self, images: Images, **query: Any) -> list[ImageArray]:
        """POST /denoise; of each answer the first picture."""
        return [answers[0] for answers in self._answer("denoise", query, ({"image": image} for image in images))]

    def restore(self, images: Images, mask: ImageArray | None = None, **query: Any) -> list[ImageArray]:
        """POST /restore; the mask is the same for all."""
        masks = {} if mask is None else {"mask": mask}
        return [answers[0] for answers in self._answer("restore", query, ({"image": each, **masks} for each in images))]

    def upscale(self, images: Images, **query: Any) -> list[ImageArray]:
        """POST /upscale; of each answer the first picture."""
        return [answers[0] for answers in self._answer("upscale", query, ({"image": image} for image in images))]

    def interpolate(self, pairs: Sequence[Images], shares: Sequence[float], **query: Any) -> list[list[ImageArray]]:
        """POST /interpolate; a strip for each pair."""
        sent = ({"image_a": a, "image_b": b} for a, b in pairs)
        return self._answer("interpolate", {"lambda": list(shares), **query}, sent)

    def _answer(
        self, name: str, query: dict[str, Any], sent: Iterable[dict[str, ImageArray]]
    ) -> list[list[ImageArray]]:
        """All at once, as a worker with that many jobs in flight makes them."""
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
