"""The models folder, for commands that need a model of it or put one there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from difuso.jobs.catalog import Catalog, ModelInfo, read_catalog
from difuso.jobs.model_folders import model_folders
from difuso.jobs.params import MODEL_NAME
from difuso.model.formats.folders import holds_config

from .errors import UserError, user_errors

if TYPE_CHECKING:
    from difuso.jobs.mirror import Mirror
    from difuso.jobs.settings import SharedSettings
    from difuso.model import Checkpoint


def open_mirror(settings: SharedSettings) -> Mirror | None:
    """Returns the mirror of the address of models; None if they lie in a folder. UserError without its file system."""
    if settings.models_address is None:
        return None
    from difuso.jobs.mirror import Mirror  # here, because a folder needs no file systems

    try:
        return Mirror(settings)
    except (ImportError, ValueError) as error:
        raise UserError(f"DIFUSO_MODELS_DIR is {settings.models_address}, which cannot be used: {error}") from error


def models_folder(settings: SharedSettings) -> Path:
    """Returns the folder of models, into which those of an address are fetched first; UserError if it stays empty."""
    mirror, folder = open_mirror(settings), settings.models_dirs[0]
    if mirror is not None:
        mirror.look()
        if not model_folders(folder):
            raise UserError(f"no model in {settings.models_address}: {mirror.trouble or 'push one'}")
    return folder


def usable_models(*folders: Path) -> Catalog:
    """Reads folders of models, whose weights are checked when they are loaded; UserError if none can be used."""
    catalog = read_catalog(*folders)
    if not catalog.models:
        raise no_model(folders[0], catalog.refused)
    return catalog


def no_model(folder: Path, refused: Mapping[str, str]) -> UserError:
    """Returns the error that no model of a folder can be used; `refused` are the reasons by the models' names."""
    place = folder.absolute()
    reasons = "".join(f"; {name}: {reason}" for name, reason in refused.items())
    other = f"{place.parent}, because this folder is a model itself," if holds_config(folder) else "another folder"
    return UserError(f"no model in {place}{reasons}. Name {other} with --models-dir or DIFUSO_MODELS_DIR")


def find_model(name: str | None, folder: Path, version: str | None = None) -> ModelInfo:
    """Finds a checkpoint by its name; None means the first that draws from noise alone. UserError if there is none.

    `version` is that of the model; if it is not there, or None, the newest is found.
    """
    catalog = usable_models(folder)
    with user_errors():
        model = catalog.choose(None) if name is None else catalog.find(name)
    return next((each for each in catalog.versions[model.name] if each.version == version), model)


def name_from(text: str) -> str:
    """Makes a model's name from another name."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).lstrip("._-")[:64] or "model"


def check_name(name: str) -> None:
    """Raises UserError unless a folder of this name can be a model."""
    if not re.fullmatch(MODEL_NAME, name):
        raise UserError(f"{name!r} is not a name for a model: it may have a-z, 0-9, dots, dashes and underscores")


def call_once(checkpoint: Checkpoint) -> None:
    """Calls the network of a model as a worker does; raises ForeignError if that fails."""
    import torch

    from difuso.worker.device.calls import by_position, example_batch

    x, t, inputs = example_batch(checkpoint.config, 1)
    with torch.inference_mode():
        by_position(checkpoint, torch.device("cpu"))(x, t, *inputs.values())


def print_summary(out: Path, checkpoint: Checkpoint) -> None:
    """Prints the facts of a folder that was loaded and called, and how to use it."""
    parameters = sum(parameter.numel() for parameter in checkpoint.network.parameters())
    networks = {"a classifier": checkpoint.classifier, "a weaker network": checkpoint.weaker}
    guides = " and ".join(name for name, network in networks.items() if network is not None)
    facts = f"{parameters:,} parameters, {checkpoint.config.shape.in_pixels} pixels{guides and f', with {guides}'}"
    typer.echo(f"{out}: {facts}; it can be loaded and called")
    if checkpoint.config.instead_of is not None:
        typer.echo(
            f"its images are others: {checkpoint.config.defaults.sampler} draws instead of "
            f"{checkpoint.config.instead_of}",
            err=True,
        )
    typer.echo(f"serve it:   difuso serve --models-dir {out.parent}")
    typer.echo(f"or sample:  difuso sample --models-dir {out.parent} --model {out.name}")
