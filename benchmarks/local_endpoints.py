"""What a server does with /denoise, /restore and /interpolate, in this process, so that many can share a batch."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from app.noise_estimate import estimate_sigma
from app.pictures import Fitted, fit, fit_mask
from app.tasks import DenoiseQuery, InterpolateQuery, RestoreQuery, denoising, interpolation, restore_parts, restoring
from difuso.sampling import local_job
from jobs.catalog import read_catalog
from jobs.contract import SamplingParams
from jobs.tasks import Task
from model import load_checkpoint
from model.images import from_png
from training.images import ImageArray
from worker.local import run_jobs
from worker.runner import Runner

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
        asked, requests = DenoiseQuery(seed=0, **query), []
        for image in images:
            sent = self._fit(image)
            requests.append((*denoising(asked, self.model, estimate=estimate_sigma(sent.png)), [sent]))
        return [pictures[0] for pictures in self._answer(requests)]

    def restore(self, images: Images, mask: ImageArray | None = None, **query: Any) -> list[ImageArray]:
        """POST /restore; the mask is the same for all."""
        asked = RestoreQuery(seed=0, **query)
        prepare = restore_parts(asked, self.model)["image"]
        masks = [] if mask is None else [fit_mask(Image.fromarray(mask), size=self.model.image_size)]
        params, task = restoring(asked, self.model)
        requests = [(params, task, [prepare(Image.fromarray(image)), *masks]) for image in images]
        return [pictures[0] for pictures in self._answer(requests)]

    def interpolate(self, pairs: Sequence[Images], shares: Sequence[float], **query: Any) -> list[list[ImageArray]]:
        """POST /interpolate; a strip for each pair."""
        asked = InterpolateQuery.model_validate({"seed": 0, "lambda": list(shares), **query})
        params, task = interpolation(asked, self.model)
        return self._answer([(params, task, [self._fit(a), self._fit(b)]) for a, b in pairs])

    def _fit(self, image: ImageArray) -> Fitted:
        return fit(Image.fromarray(image), size=self.model.image_size, channels=self.model.channels)

    def _answer(self, requests: Sequence[tuple[SamplingParams, Task, list[Fitted]]]) -> list[list[ImageArray]]:
        """All at once, as a worker with that many jobs in flight makes them."""
        name = self.model.name
        jobs = [(local_job(name, *request), [from_png(each.png) for each in request[-1]]) for request in requests]
        self.image_steps += sum(job.image_steps for job, _ in jobs)
        return [[np.asarray(Image.open(BytesIO(png))) for png in pngs] for pngs in run_jobs(self._runner, jobs)]
