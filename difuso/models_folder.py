"""The models folder, for commands that need a model of it."""

from __future__ import annotations

from pathlib import Path

from jobs.catalog import Catalog, ModelInfo, read_catalog

from .errors import UserError, user_errors


def usable_models(folder: Path) -> Catalog:
    """Reads a folder of models; the weights are checked when a model is loaded.

    Raises:
        UserError: if none of them can be used.
    """
    catalog = read_catalog(folder)
    if not catalog.models:
        reasons = "".join(f"; {name}: {reason}" for name, reason in catalog.refused.items())
        raise UserError(
            f"no model in {folder}{reasons}. Name another folder with DIFUSO_MODELS_DIR, or --models-dir where the "
            "command has it"
        )
    return catalog


def find_model(name: str | None, folder: Path) -> ModelInfo:
    """Finds a checkpoint by its name; None means the first that draws from noise alone.

    Raises:
        UserError: if there is no such checkpoint.
    """
    catalog = usable_models(folder)
    with user_errors():
        return catalog.choose(None) if name is None else catalog.find(name)
