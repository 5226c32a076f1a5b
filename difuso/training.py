"""`difuso train`: runs a recipe with its changes in a folder, or measures what a run would need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from torch import OutOfMemoryError

from training.dry_run import dry_run
from training.recipe import load_recipe
from training.run import train
from worker.runner import pick_device

from .errors import UserError, user_errors

RUNS = Path("var/runs")


def run_recipe(name: str, changes: Sequence[str], out: Path | None, *, device: str) -> None:
    """Trains a recipe in the folder `out`, or in one of the recipe's name below var/runs.

    Raises:
        UserError: if the recipe or its images cannot be used, or the run diverges.
    """
    with _training_errors():
        recipe = load_recipe(name, changes)
        train(recipe, out or RUNS / recipe.name, device=str(pick_device(device)))


def print_dry_run(name: str, changes: Sequence[str], *, device: str) -> None:
    """Trains a few steps; prints shapes, memory and time.

    Raises:
        UserError: if the recipe or its images cannot be used here.
    """
    with _training_errors():
        for line in dry_run(load_recipe(name, changes), device=str(pick_device(device))).lines():
            typer.echo(line)


@contextmanager
def _training_errors() -> Iterator[None]:
    """Turns errors that the user can correct into UserError."""
    try:
        with user_errors():
            yield
    except OutOfMemoryError as error:
        raise UserError("the device's memory is full: take a smaller batch_size, or a larger accumulate") from error
