"""`difuso init`: writes a recipe, one of each that it may name, and a test, to begin with."""

import keyword
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError

STARTER, SUFFIX = files("difuso").joinpath("starter"), ".txt"  # which hides the files from checks of our own code


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new folder, and of the module in it.")],
) -> None:
    """Writes a folder with a network, images, training, a sampler and a recipe of your own, to begin with."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or keyword.iskeyword(name):
        raise UserError(f"NAME is that of a Python module: small letters, digits and _, a letter first, not {name!r}")
    if Path(name).exists():
        raise UserError(f"{name} exists already: choose another name, or delete it")
    for module in (name, f"{name}_plan"):
        if find_spec(module) is not None:
            raise UserError(f"Python has a module {module} already: choose another name")
    Path(name).mkdir()
    for file in sorted(STARTER.iterdir(), key=lambda file: file.name):
        path = Path(name, file.name.removesuffix(SUFFIX).replace("NAME", name))
        path.write_text(file.read_text("utf-8").replace("NAME", name), "utf-8")
        typer.echo(path)
    typer.echo(f"allow it:  cd {name}; export PYTHONPATH=. DIFUSO_NETWORKS={name} DIFUSO_PLUGINS={name}_plan")
    typer.echo(f"train it:  difuso train {name}.toml")
    typer.echo(f"serve it:  difuso serve --models-dir var/runs/{name}")
