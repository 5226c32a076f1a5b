"""`difuso train`: runs a recipe in a folder, or one that it makes for pictures, or measures what a run would need.

UserError says why the recipe or its images cannot be used, or that the run diverges.
"""

import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from torch import OutOfMemoryError

from difuso.model.conditions import listed
from difuso.training.errors import Diverged
from difuso.training.own_pictures import FEW, Pictures, look_at, recipe_text
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.replacing import replace_text
from difuso.training.run.dry_run import dry_run, step_seconds
from difuso.training.run.run import MODEL, train
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import pick_device

from ..errors import RunDiverged, UserError, user_errors
from ..models_folder import name_from

RUNS = Path("var/runs")
MADE = "recipe.toml"  # the recipe of a run that was made for its pictures

log = logging.getLogger(__name__)


def run_recipe(name: str, changes: Sequence[str], out: Path | None, settings: WorkerSettings) -> None:
    """Trains a recipe in the folder `out`, or in one of the recipe's name below var/runs."""
    with _training_errors():
        recipe, device = _load(name, changes, settings), str(pick_device(settings.device))
        kid_from = None
        if recipe.kid_every:
            from difuso.evaluation import distances  # which needs more than training does

            kid_from = partial(distances.kid_from, device=device)
        try:
            step = train(recipe, out := out or RUNS / recipe.name, device=device, kid_from=kid_from)
        except KeyboardInterrupt as error:  # before the first step, or the second while a step is awaited
            raise UserError("stopped; what was saved is kept, and the same command continues from there") from error
        if step == recipe.max_steps and not recipe.trains_classifier and sys.stdout.isatty():  # a person, no trainer
            typer.echo(f"draw with it:  difuso sample --models-dir {shlex.quote(str(out))} --model {MODEL}")


def run_pictures(
    pictures: Path,
    changes: Sequence[str],
    out: Path | None,
    settings: WorkerSettings,
    *,
    dry: bool = False,
    **chosen: Any,
) -> None:
    """Trains on a folder or an archive of pictures, by a recipe that is made for them when the run begins.

    The `chosen` are the `preset`, and `minutes` and `table` or None. A `dry` run makes a recipe to measure it.
    """
    if dry:
        with TemporaryDirectory() as folder:
            print_dry_run(str(_recipe_for(pictures, changes, Path(folder), settings, **chosen)), changes, settings)
        return
    out = out or RUNS / name_from(pictures.stem)
    recipe = _recipe_for(pictures, changes, out, settings, **chosen)
    log.info("%s says how many steps there are, and may be changed", recipe)
    run_recipe(str(recipe), changes, out, settings)


def _recipe_for(
    pictures: Path, changes: Sequence[str], out: Path, settings: WorkerSettings, *, preset: str, **chosen: Any
) -> Path:
    """Returns the recipe of a run, for which one that begins takes some steps, to see how many fit into its time."""
    given = [("preset", preset), *((name, value) for name, value in chosen.items() if value is not None)]
    options = [word for name, value in given for word in (f"--{name}", str(value))]
    file, command = out / MADE, shlex.join(["difuso", "train", str(pictures), *options])
    with _training_errors():
        if file.exists():
            if file.read_text(encoding="utf-8").split("\n", 1)[0] != f"# {command}":
                raise UserError(f"{file} was made by another command, which its first line holds: give another --out")
            return file
        found = look_at(pictures, chosen["table"])
        _print_found(found)
        out.mkdir(parents=True, exist_ok=True)
        made = partial(
            recipe_text, found, preset, name=name_from(pictures.stem), command=command, minutes=chosen["minutes"]
        )
        (draft := out / f"draft-{MADE}").write_text(made(step_seconds=1.0), encoding="utf-8")
        seconds = step_seconds(_load(str(draft), changes, settings), device=str(pick_device(settings.device)))
        draft.unlink()
        replace_text(file, made(step_seconds=seconds))
        log.info("a step takes %.3g s here", seconds)
    return file


def _print_found(found: Pictures) -> None:
    named = f" in {len(found.classes)} classes: {listed(found.classes, 10)}" if found.classes else ""
    log.info("%d pictures%s", found.count, named)
    if found.conditions:
        log.info("conditions: %s", listed([*found.conditions], 32))
    for name, reason in found.left_out.items():
        log.warning("without %s: %s", name, reason)
    if found.count < FEW:
        log.warning("with fewer than %d pictures the model will remember them: its images will be copies", FEW)


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
    except UserError as error:
        if isinstance(error.__cause__, Diverged):
            raise RunDiverged(str(error)) from error
        raise
    except OutOfMemoryError as error:
        raise UserError("the device's memory is full: take a smaller batch_size, or a larger accumulate") from error
