"""`difuso verify`: makes an image again from its recipe, and compares."""

import io
import itertools
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image
from pydantic import BaseModel, ValidationError

from difuso.jobs.contract import Job
from difuso.jobs.errors import ImageRefused, JobUnreadable
from difuso.jobs.image_recipe import job_of
from difuso.jobs.images.containers import strip
from difuso.jobs.images.fitting import Fitted, How, Sent, fit, fit_mask
from difuso.jobs.images.noise import fit_noise, noises_in
from difuso.jobs.kinds.base import Fit, fit_of
from difuso.model.folders.config import ModelConfig, Precision
from difuso.model.shape import Shape
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import Runner

from ..drawing.drawing import load_runner
from ..drawing.sampling import draw, open_file, slots_of
from ..errors import UserError, user_errors
from ..models_folder import find_model, models_folder
from ..terminal import printable
from .inspecting import read_recipe, recipe_in

SCALES = (1, 2, 4)  # /restore takes smaller images to enlarge
HOW: tuple[How, ...] = ("cover", "contain")


def verify_image(file: Path, uploads: Sequence[Path], settings: WorkerSettings) -> bool:
    """Makes the image of a PNG again, and prints how the two differ; returns whether they are equal.

    `uploads` are the files of the request, in any order.

    Raises UserError if this cannot be done, for example with other weights than those of the recipe.
    """
    facts = read_recipe(file)
    if "params" in facts:
        raise UserError(f"{file} shows several images, each with a recipe of its own: verify them one by one")
    with user_errors():
        runner, png = _make_again(file, facts, uploads, settings)
        differing = list(differences(file.read_bytes(), png))
    for line in differing or ["equal in every pixel and byte of its image data"]:
        typer.echo(printable(f"{file}: {line}"))
    typer.echo(f"made again by {_maker(runner)}")
    if differing:
        typer.echo("The recipe does not say which processor, threads and versions made the picture; all of them count.")
    return not differing


def differences(file: bytes, made: bytes) -> Iterator[str]:
    """Yields how two PNGs of one recipe differ: in pixels, in their compressed bytes, in their recipes.

    Raises ImageRefused if a file is damaged.
    """
    old, new = (strip(each).data for each in (file, made))
    if old != new:
        yield _differing_pixels(*(Image.open(io.BytesIO(each)) for each in (old, new)))
    before, after = recipe_in(file), recipe_in(made)
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield f"{name} in its recipe is {before.get(name, 'absent')}, and made again {after.get(name, 'absent')}"


def _differing_pixels(old: Image.Image, new: Image.Image) -> str:
    if (old.size, old.mode) != (new.size, new.mode):
        return f"its pixels are {old.width}x{old.height} {old.mode}, and made again {new.width}x{new.height} {new.mode}"
    apart = np.abs(np.asarray(old, np.int32) - np.asarray(new, np.int32)).reshape(old.height * old.width, -1).max(1)
    if not apart.any():
        return "the pixels are equal, but not their compressed bytes: another program or zlib wrote the file"
    return f"{np.count_nonzero(apart)} of {len(apart)} pixels differ, by at most {apart.max()} grey levels"


class Origin(BaseModel):
    """The facts of a recipe that say by what its image was made. Without a number format it was float32."""

    model: str
    version: str
    upscaler_version: str = ""
    precision: Precision = "float32"
    upscaler_precision: Precision = "float32"
    pictures: tuple[str, ...] = ()  # the SHA-256 of the fitted images of the request


def _make_again(
    file: Path, facts: Mapping[str, Any], uploads: Sequence[Path], settings: WorkerSettings
) -> tuple[Runner, bytes]:
    try:
        origin = Origin.model_validate(facts)
        config = find_model(origin.model, models_folder(settings), origin.version).config
        images = _fitted(uploads, origin.pictures, config)
        job = job_of(facts, images)
        seen = _fitted(uploads, job.params.uploads(config), config)
        versions = (origin.version, origin.precision), (origin.upscaler_version, origin.upscaler_precision)
        runner, *more = (
            _at_version(file, job, name, version, settings.model_copy(update={"precision": precision}))
            for name, (version, precision) in zip(job.models, versions, strict=False)
        )
        return runner, draw(runner, job, [each.file for each in (*images, *seen)], *more).pngs[0]
    except (JobUnreadable, ValidationError) as error:
        raise UserError(f"the recipe in {file} is damaged or of another version of difuso") from error


def _at_version(file: Path, job: Job, name: str, version: str, settings: WorkerSettings) -> Runner:
    """Loads a model of a job; raises UserError if it is not there in the version that made the image of a file."""
    model = find_model(name, models_folder(settings), version)
    if model.version != version:
        raise UserError(
            f"{file} was made by version {version[:12]} of {name}, and {model.path} holds "
            f"{model.version[:12]}; put that version beside it as {name}@TAG, or name another folder with --models-dir"
        )
    return load_runner(model.path, settings, slots=slots_of(job))


def _fitted(files: Sequence[Path], hashes: Sequence[str], config: ModelConfig) -> list[Fitted]:
    """Returns the fitted files of a request by their SHA-256, in this order.

    A recipe does not say how they were fitted, so each file is fitted in every way that a request can ask for.
    """
    found = {fitted.sha256: fitted for file in files for fitted in _every_fit(open_file(file), config)}
    if missing := sum(each not in found for each in hashes):
        raise UserError(
            f"the picture was made from uploaded files: --upload is needed for {missing} of {len(hashes)}, with the "
            "files as they were sent"
        )
    return [found[each] for each in hashes]


def _every_fit(sent: Sent, config: ModelConfig) -> Iterator[Fitted]:
    of_kinds = itertools.product((fit, fit_mask), _shapes(config), HOW)
    fits: list[Fit] = [partial(each, shape=shape, how=how) for each, shape, how in of_kinds]
    fits += [fit_of(each, config.shape) for each in config.conditions.values() if each.is_file]
    for each in fits:
        with suppress(ImageRefused):  # a photo is no map
            yield each(sent)
    with suppress(ImageRefused):
        yield from noises_in(fit_noise(sent, shape=config.shape))


def _shapes(config: ModelConfig) -> set[Shape]:
    """Returns the shapes that the image of a request may get."""
    if config.small_shape is not None:
        return {config.small_shape}
    channels, height, width = config.shape
    return {Shape(each, height // scale, width // scale) for each in (1, channels) for scale in SCALES}


def _maker(runner: Runner) -> str:
    """Describes what decides the bits here, apart from weights and recipe."""
    if runner.device.type == "cuda":
        where = torch.cuda.get_device_name(runner.device)
    else:
        capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
        where = f"{runner.device.type}, {platform.machine()} {capability}, {threads} threads"
    return f"a network in {runner.precision} on {where}, difuso {version('difuso')}, torch {torch.__version__}"
