"""Training of models. The names of the recipes that ship cost nothing to import: the command line's help has them."""

from importlib.resources import files


def recipe_names() -> list[str]:
    """Returns the names of the recipes that ship, in order."""
    entries = files("difuso.training").joinpath("recipes").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))
