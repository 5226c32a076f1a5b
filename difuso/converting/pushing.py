"""`difuso push`: puts a model at the address that workers and front ends fetch their models from."""

import re
from pathlib import Path
from typing import Annotated

import typer

from difuso.jobs.model_folders import FOLDER

from ..errors import UserError, user_errors


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a model.")],
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Where the servers look for models: s3://bucket/models.")
    ],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Its name there, or NAME@TAG; else that of the folder.")
    ] = None,
) -> None:
    """Puts a model, or a new version of one, at an address of which servers serve it within half a minute."""
    from difuso.jobs.pushed_models import push
    from difuso.jobs.store.blobs import Blobs

    name = name or folder.resolve().name
    if not re.fullmatch(FOLDER, name):
        raise UserError(f"{name!r} is no name of a model: give another with --as; a-z, 0-9, dots, dashes, underscores")
    if "://" not in address:
        raise UserError(f"{address} is no address, such as s3://bucket/models: into a folder just copy the model")
    try:
        blobs = Blobs(address)
    except (ImportError, ValueError) as error:
        raise UserError(f"{address} cannot be used: {error}") from error
    try:
        with user_errors(str(folder)):
            model = push(folder, blobs, name)
    except UserError:
        raise
    except Exception as error:  # errors of the disk, the network and the bucket's client
        raise UserError(f"{folder} cannot be pushed to {address}: {error}") from error
    size = sum(file.size for file in model.files.values())
    typer.echo(f"{name} is at {address} in version {model.version[:12]}: {len(model.files)} files, {size / 1e6:.1f} MB")
