"""The models folder, for commands that need a model of it."""

from collections.abc import Mapping
from pathlib import Path

from difuso.jobs.catalog import Catalog, ModelInfo, read_catalog
from difuso.model.formats.folders import holds_config

from .errors import UserError, user_errors


def usable_models(folder: Path) -> Catalog:
    """Reads a folder of models, whose weights are checked when they are loaded; UserError if none can be used."""
    catalog = read_catalog(folder)
    if not catalog.models:
        raise no_model(folder, catalog.refused)
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
