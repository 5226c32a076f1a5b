"""`difuso sample`, `interpolate`, `denoise` and `restore`: the jobs of the server without a server, into a folder.

The API code reads the request and the engine of the worker runs it, so the pictures are the same as from a server.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL.Image import Image

from app.errors import InvalidRequest, UploadRefused
from app.noise_estimate import estimate_sigma
from app.parameters import SamplingQuery, choose_model, fill_in
from app.pictures import Fitted, fit, read_picture
from app.tasks import (
    DenoiseQuery,
    InterpolateQuery,
    PictureQuery,
    RestoreQuery,
    denoising,
    interpolation,
    matched,
    restore_parts,
    restoring,
)
from jobs.catalog import ModelInfo, read_catalog
from jobs.contract import MAX_SECONDS, Job, SamplingParams
from jobs.tasks import Generation, Interpolation, Picture, Task
from worker.settings import WorkerSettings

from .errors import UserError, user_errors
from .progress import progress

Request = tuple[SamplingParams, Task, list[Fitted]]


def sample_into(folder: Path, query: SamplingQuery, settings: WorkerSettings) -> list[Path]:
    """Makes pictures from noise, named by model and seed; returns their files.

    Raises:
        UserError: if the model cannot do what is asked, or a picture cannot be read.
    """
    return _run(folder, query, settings, lambda model: (fill_in(query, model), Generation(), []))


def interpolate_into(
    folder: Path, query: InterpolateQuery, files: tuple[Path, Path], settings: WorkerSettings
) -> list[Path]:
    """Makes pictures between two; otherwise as `sample_into`."""

    def prepare(model: ModelInfo) -> Request:
        params, task = interpolation(query, model)
        return params, task, [_read(file, _fit(query, model)) for file in files]

    return _run(folder, query, settings, prepare)


def denoise_into(folder: Path, query: DenoiseQuery, file: Path, settings: WorkerSettings) -> list[Path]:
    """Takes the noise out of a picture, or draws it anew; otherwise as `sample_into`."""

    def prepare(model: ModelInfo) -> Request:
        picture = _read(file, _fit(query, model))
        params, task = denoising(query, model, estimate=estimate_sigma(picture.png))
        return params, task, [picture]

    return _run(folder, query, settings, prepare)


def restore_into(
    folder: Path, query: RestoreQuery, files: Mapping[str, Path | None], settings: WorkerSettings
) -> list[Path]:
    """Undoes a degradation; `files` are its `image` and, to inpaint, its `mask`. Otherwise as `sample_into`."""

    def prepare(model: ModelInfo) -> Request:
        params, task = restoring(query, model)
        sent = {}
        for name, read in restore_parts(query, model).items():
            file = files.get(name)
            if file is None:
                raise UserError(f"--{name} is missing")
            sent[name] = _read(file, read)
        return params, task, matched(sent)

    return _run(folder, query, settings, prepare)


def local_job(model: str, params: SamplingParams, task: Task | None = None, sent: Sequence[Fitted] = ()) -> Job:
    """A job for the engine in this process, which nobody waits for and nothing cuts short.

    Args:
        task: None generates.
        sent: the pictures that come with it.
    """
    return Job(
        id=str(uuid.uuid4()),
        task=task or Generation(),
        model=model,
        params=params,
        pictures=tuple(Picture(sha256=each.sha256, width=each.width, height=each.height) for each in sent),
        accepted_at=time.time(),
        timeout=MAX_SECONDS,
    )


def _run(
    folder: Path, query: SamplingQuery, settings: WorkerSettings, prepare: Callable[[ModelInfo], Request]
) -> list[Path]:
    try:
        model = choose_model(query.model, read_catalog(settings.models_dir))
        params, task, sent = prepare(model)
    except InvalidRequest as error:
        raise UserError(f"{error.name}: {error.detail}") from error
    except UploadRefused as error:
        raise UserError(str(error)) from error
    job = local_job(model.name, params, task, sent)
    pngs = _make(job, [each.png for each in sent], settings)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in _names(job)]
    for path, png in zip(paths, pngs, strict=True):
        path.write_bytes(png)
    return paths


def _make(job: Job, sent: Sequence[bytes], settings: WorkerSettings) -> list[bytes]:
    from model import load_checkpoint
    from model.images import from_png
    from worker.local import run_job
    from worker.runner import Runner, pick_device

    with user_errors(job.model):
        checkpoint = load_checkpoint(settings.models_dir / job.model)
        slots = settings.slots or min(job.params.n, 8)
        runner = Runner(checkpoint, device=pick_device(settings.device), slots=slots, exact=settings.exact)
        with progress(f"{job.model}, seed {job.params.seed}") as show:
            pictures: list[bytes] = []
            for event in run_job(runner, job, [from_png(png) for png in sent]):
                if isinstance(event, list):
                    pictures = event
                else:
                    show(event)
    return pictures


def _names(job: Job) -> list[str]:
    if isinstance(job.task, Interpolation):
        return [f"{job.model}-{job.params.seed}-{share:g}.png" for share in job.task.shares]
    suffix = "" if isinstance(job.task, Generation) else f"-{job.kind}"
    return [f"{job.model}-{job.params.seed + index}{suffix}.png" for index in range(job.answers)]


def _fit(query: PictureQuery, model: ModelInfo) -> Callable[[Image], Fitted]:
    return partial(fit, size=model.image_size, channels=model.channels, how=query.fit)


def _read(file: Path, prepare: Callable[[Image], Fitted]) -> Fitted:
    try:
        return prepare(read_picture(file.read_bytes()))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except UploadRefused as error:
        raise UserError(f"{file}: {error}") from error
