"""The recipes that ship, as files: importing this costs nothing, so that the help of the command line can name them."""

from importlib.resources import files


def recipe_names() -> list[str]:
    """Returns the names of the recipes that ship, in order."""
    entries = files("training").joinpath("recipes").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))
