"""The default places of models and of difuso's state."""

from pathlib import Path

from platformdirs import user_state_path

from difuso.model.formats.folders import holds_config

CHECKPOINTS = Path("checkpoints")
SHIPPED = Path(__file__).with_name("shipped")  # links to what lies in checkpoints/, which a wheel holds as files
CLONE = Path(__file__).resolve().parents[1]  # site-packages, where a wheel is installed


def default_models_dir() -> Path:
    """Returns ./checkpoints, or the models that come with difuso if no model lies there."""
    there = CHECKPOINTS.is_dir() and any(holds_config(path) for path in CHECKPOINTS.iterdir())
    return CHECKPOINTS if there else SHIPPED


def default_state_dir() -> Path:
    """Returns var/ of the running clone if the working directory is in it, else the platform's folder for state."""
    if (CLONE / "pyproject.toml").is_file() and Path.cwd().is_relative_to(CLONE):
        return CLONE / "var"
    return user_state_path("difuso", appauthor=False)
