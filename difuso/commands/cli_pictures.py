"""`difuso inspect` and `difuso verify`: how a picture was made, and whether it can be made again."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CannotVerify, UserError, machine_errors
from ..logs import log_lines
from ..options import ModelsDir, read_settings


def inspect(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="PNG that difuso wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prints how a picture was made, from its PNG."""
    from .inspecting import print_recipe

    print_recipe(picture, as_json=as_json)


def verify(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="PNG of a single image that difuso wrote.")],
    uploads: Annotated[
        list[Path] | None,
        typer.Option("--upload", help="Image that the picture was made from; may be repeated."),
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Makes a picture again and compares. The exit status is 0 if they are equal, 1 if not, 2 if it is impossible."""
    from worker.settings import WorkerSettings

    log_lines("verify", level="warning")
    try:
        with machine_errors():
            from .verifying import verify_image

            equal = verify_image(picture, uploads or (), read_settings(WorkerSettings, models_dir=models_dir))
    except UserError as error:
        raise CannotVerify(str(error)) from error
    if not equal:
        sys.exit(1)
