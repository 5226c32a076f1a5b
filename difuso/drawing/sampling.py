"""Runs a job without a server, and writes its images into a folder or an .npz file.

The same code reads the request and the same engine runs it, so the images are those that a server makes.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from difuso.jobs.conditions import split_files
from difuso.jobs.contract import Job, new_job
from difuso.jobs.errors import ImageRefused
from difuso.jobs.images.fitting import Fitted, Sent, read_file
from difuso.jobs.images.npz import Array, encode_npy, encode_npz, pixels_of, with_labels
from difuso.jobs.kinds.base import Kind, Parts, Task
from difuso.jobs.params import SamplingParams
from difuso.jobs.queries import SamplingQuery
from difuso.worker.settings import WorkerSettings

from ..errors import UserError, user_errors
from ..models_folder import find_model, models_folder, usable_models
from ..progress import progress, title_of
from .drawing import load_runner

if TYPE_CHECKING:
    from difuso.worker.engine.local import Drawn
    from difuso.worker.stepping.runner import Runner

log = logging.getLogger(__name__)

NPZ, NPY = ".npz", ".npy"  # the suffixes of a file, where any other name is that of a folder
FILES = (NPZ, NPY)


class Request(NamedTuple):
    """A request for one job, as the command line has it."""

    kind: Kind[Any]
    query: SamplingQuery
    files: Mapping[str, Path | None] = MappingProxyType({})  # its image files, by the kind's names for them


def make_images(request: Request, out: Path, settings: WorkerSettings) -> list[Path]:
    """Runs one job; returns the paths of its files, which `write_images` writes.

    Raises UserError if the model cannot do what is asked, or a file cannot be read.
    """
    job, sent = read_job(request, settings)
    for warning in job.warnings:
        log.warning(warning.detail)
    check_holds_planes(out, job.planes)
    check_place(out)
    folder = settings.models_dirs[0]  # fetched by `read_job`
    found = (find_model(name, folder, version) for name, version in zip(job.models, job.versions, strict=True))
    runner, *more = (load_runner(each.path, settings, slots=slots_of(job)) for each in found)
    with user_errors(job.model):
        drawn = draw(runner, job, sent, *more)
    pixels = np.stack([pixels_of(png, planes=job.planes) for png in drawn.pngs])
    pngs = drawn.pngs if job.planes == 1 else ()
    return write_images(out, pngs, pixels, drawn.trace, model=job.model, task=job.task, params=job.params)


def read_job(request: Request, settings: WorkerSettings) -> tuple[Job, list[bytes]]:
    """Returns the job of a request, and its fitted files; raises UserError like `make_images`."""
    kind, query, files = request
    with user_errors():
        model = kind.choose(query, usable_models(models_folder(settings)))
        conditions, given = split_files(query.conditions, model.config.conditions)
        query = query.model_copy(update={"conditions": conditions})
        named = {**files, **{name: Path(str(file)) for name, file in given.items()}}
        prepared = kind.prepare(query, model, _read_files(kind, named, kind.parts(query, model)))
        return new_job(model.name, prepared, versions=model.versions), [each.file for each in prepared.uploads]


def write_images(
    out: Path,
    pngs: Sequence[bytes],
    pixels: Array,
    trace: Mapping[str, Array],
    *,
    model: str,
    task: Task,
    params: SamplingParams,
) -> list[Path]:
    """Writes the images of a job; returns the paths of its files.

    Args:
        out: an .npz file for the images and the trace, as with `Accept: application/x-npz`, or a .npy file for the
            images alone; or a folder for the images, which are named by model and seed, and numbered where another
            image has the name.
        pngs: the images; none if they are not PNGs.
        pixels: the same images, shape (N, H, W, C).
        trace: the arrays of the moments that the job kept.

    Raises UserError if they cannot be written, or a folder cannot hold the images.
    """
    try:
        if out.suffix in FILES:
            out.parent.mkdir(parents=True, exist_ok=True)
            content = encode_npz(with_labels(pixels, params), trace) if out.suffix == NPZ else encode_npy(pixels)
            write_whole(out, content)
            return [out]
        if not pngs:
            check_holds_planes(out, pixels.shape[-1])
        out.mkdir(parents=True, exist_ok=True)
        names = [f"{model}-{task.file_stem(params, index)}.png" for index in range(len(pngs))]
        return [_write(out / name, png) for name, png in zip(names, pngs, strict=True)]
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from error


def _write(path: Path, png: bytes) -> Path:
    """Writes an image; beside another one of this name as NAME-2, NAME-3 and so on. Returns its path."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    free = next(each for each in itertools.chain([path], others) if not each.exists() or each.read_bytes() == png)
    free.write_bytes(png)
    return free


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def check_place(out: Path) -> None:
    """Raises UserError unless images can be written there, before any time is spent on drawing them."""
    folder = out.parent if out.suffix in FILES else out
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise UserError(f"{there} is not a folder: name another place with --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} cannot be written to: name another place with --out")


def check_holds_planes(out: Path, planes: int) -> None:
    """Raises UserError if images of so many planes cannot be written there: those of several are no PNGs."""
    if planes > 1 and out.suffix not in FILES:
        raise UserError(
            f"images of {planes} channels are not PNGs: name a file for them, with --out FILE.npz or FILE.npy"
        )


def slots_of(job: Job) -> int:
    """Returns the size of the largest batch of a job that is alone."""
    return 2 if job.params.n == 1 else min(job.params.n, 8)  # one image in a batch of one may have other bits


def draw(runner: Runner, job: Job, sent: Sequence[bytes], upscaler: Runner | None = None) -> Drawn:
    """Runs a job on its fitted files; returns its images and its trace.

    The upscaler is the model of the second stage of a cascade.
    """
    from difuso.model.images import from_file
    from difuso.worker.engine.local import run_job

    with progress(title_of(job.model, job.params.seed)) as show:
        return run_job(runner, job, [from_file(each) for each in sent], upscaler=upscaler, show=show)


def open_file(file: Path) -> Sent:
    """Decodes a file of a request; raises UserError if it cannot be read."""
    try:
        return read_file(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ImageRefused as error:
        raise UserError(f"{file}: {error.detail or f'{error.title}. {error.advice}'}") from error


def _read_files(kind: Kind[Any], files: Mapping[str, Path | None], parts: Parts) -> dict[str, Fitted]:
    """Returns the fitted files of a request, which needs a file for each of its parts and no other."""
    given = {name: file for name, file in files.items() if file is not None}
    for name in parts.fits.keys() - given.keys() - parts.optional:
        hint = f"; name {' and '.join(kind.required)}, or give {kind.instead}" if kind.instead else ""
        option = f"--{name}" if name in kind.optional else f"--condition {name}:FILE"
        raise UserError(f"{name if name in kind.required else option} is missing{hint}")
    for name in given.keys() - parts.fits.keys():
        raise UserError(f"{name} should be omitted with {kind.instead or 'these parameters'}")
    return {name: parts.fits[name](open_file(file)) for name, file in given.items()}
