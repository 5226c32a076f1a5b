"""Runs a job without a server, and writes its images into a folder.

The same code reads the request and the same engine runs it, so the images are those that a server makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.catalog import read_catalog
from jobs.contract import Job, new_job
from jobs.errors import ImageRefused
from jobs.images.fitting import FittedImage, read_image
from jobs.kinds.base import Fit, Kind, SamplingQuery
from worker.settings import WorkerSettings

from .errors import UserError, user_errors
from .progress import progress


def make_images(
    kind: Kind[Any], query: SamplingQuery, files: Mapping[str, Path | None], folder: Path, settings: WorkerSettings
) -> list[Path]:
    """Runs one job; returns the paths of its images, which are named by model and seed.

    Args:
        files: image files of the request, by the kind's names for them.

    Raises:
        UserError: if the model cannot do what is asked, or a file cannot be read.
    """
    with user_errors():
        model = read_catalog(settings.models_dir).choose(query.model)
        images = {name: _read(name, files.get(name), fit) for name, fit in kind.fits(query, model).items()}
        job = new_job(model.name, kind.prepare(query, model, images))
    with user_errors(model.name):
        pngs = _draw(job, [image.png for image in images.values()], settings)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{job.model}-{job.task.label(job.params, index)}.png" for index in range(len(pngs))]
    for path, png in zip(paths, pngs, strict=True):
        path.write_bytes(png)
    return paths


def _draw(job: Job, sent: list[bytes], settings: WorkerSettings) -> list[bytes]:
    from model import load_checkpoint
    from model.images import from_png
    from worker.local import run_job
    from worker.models import make_runner
    from worker.runner import pick_device

    checkpoint = load_checkpoint(settings.models_dir / job.model)
    slots = 2 if job.params.n == 1 else min(job.params.n, 8)  # a batch of one has other bits than a server's
    runner = make_runner(checkpoint, settings, device=pick_device(settings.device), slots=slots)
    with progress(f"{job.model}, seed {job.params.seed}") as show:
        images: list[bytes] = []
        for event in run_job(runner, job, [from_png(png) for png in sent]):
            if isinstance(event, list):
                images = event
            else:
                show(event)
    return images


def _read(name: str, file: Path | None, fit: Fit) -> FittedImage:
    if file is None:
        raise UserError(f"--{name} is missing")
    try:
        return fit(read_image(file.read_bytes()))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ImageRefused as error:
        raise UserError(f"{file}: {error.detail or 'this image cannot be used'}") from error
