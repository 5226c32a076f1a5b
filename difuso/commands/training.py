"""`difuso train`: runs a recipe with its changes in a folder, or measures what a run would need.

UserError says why the recipe or its images cannot be used, or that the run diverges.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import typer
from torch import OutOfMemoryError

from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.dry_run import dry_run
from difuso.training.run.run import train
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import pick_device

from ..errors import UserError, user_errors

RUNS = Path("var/runs")


def run_recipe(name: str, changes: Sequence[str], out: Path | None, settings: WorkerSettings) -> None:
    """Trains a recipe in the folder `out`, or in one of the recipe's name below var/runs."""
    with _training_errors():
        recipe, device = _load(name, changes, settings), str(pick_device(settings.device))
        kid_from = None
        if recipe.kid_every:
            from difuso.evaluation import distances  # which needs more than training does

            kid_from = partial(distances.kid_from, device=device)
        try:
            train(recipe, out or RUNS / recipe.name, device=device, kid_from=kid_from)
        except KeyboardInterrupt as error:  # before the first step, or the second while a step is awaited
            raise UserError("stopped; what was saved is kept, and the same command continues from there") from error


def print_dry_run(name: str, changes: Sequence[str], settings: WorkerSettings) -> None:
    """Trains a few steps; prints shapes, memory and time."""
    with _training_errors():
        recipe = _load(name, changes, settings)
        for line in dry_run(recipe, device=str(pick_device(settings.device))):
            typer.echo(line)


def _load(name: str, changes: Sequence[str], settings: WorkerSettings) -> Recipe:
    recipe = load_recipe(name, changes, networks=settings.networks)
    if recipe.compile:  # torch itself would build in /tmp, where another user could put code of his own
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.home() / ".cache" / "difuso" / "torch"))
    return recipe


@contextmanager
def _training_errors() -> Iterator[None]:
    """Turns errors that the user can correct into UserError."""
    try:
        with user_errors():
            yield
    except OutOfMemoryError as error:
        raise UserError("the device's memory is full: take a smaller batch_size, or a larger accumulate") from error
