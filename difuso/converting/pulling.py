"""`difuso pull`: downloads a model of diffusers from the Hugging Face hub into the models folder.

huggingface_hub downloads into its own cache, which diffusers shares, and reads HF_ENDPOINT, HF_TOKEN, HF_HOME and
HF_HUB_OFFLINE.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difuso.jobs.settings import CHECKPOINTS
from difuso.model.folders.files import CARD
from difuso.model.formats.diffusers.config import (
    CONFIG,
    INDEX,
    SCHEDULER,
    WEIGHTS,
    find_part,
    is_diffusers,
    read_diffusers_config,
)

from ..errors import UserError, user_errors
from ..models_folder import call_once, check_name, name_from, print_summary
from ..options import NewModelsDir

if TYPE_CHECKING:
    from difuso.model import Checkpoint

SMALL = (INDEX, CONFIG, SCHEDULER, f"unet/{CONFIG}", f"scheduler/{SCHEDULER}", CARD)


def pull(
    repository: Annotated[
        str, typer.Argument(metavar="ORG/NAME", help="Model of diffusers on the Hugging Face hub, with safetensors.")
    ],
    models_dir: NewModelsDir = CHECKPOINTS,
    *,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Name of the model here.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; by default the main branch.")] = None,
) -> None:
    """Downloads a model of diffusers from the Hugging Face hub, and checks that it can be served."""
    name = name or name_from(repository.rpartition("/")[2])
    check_name(name)
    out = models_dir / name
    if out.exists():
        raise UserError(f"{out} exists already: delete it, or give another name with --as")
    snapshot = _download(repository, revision, SMALL)
    with user_errors(repository):  # which refuses the config before the weights, maybe gigabytes, are downloaded
        if not is_diffusers(snapshot):
            raise UserError(f"{repository} is not a model of diffusers: it has no {INDEX} and no config of a U-Net")
        read_diffusers_config(snapshot)
        weights = find_part(snapshot, "unet", WEIGHTS)
    snapshot = _download(repository, snapshot.name, (weights,))  # of the same commit
    if not (snapshot / weights).is_file():
        raise UserError(
            f"{repository} has no {weights}. If its weights are a pickle (.bin), download the folder with "
            f"`hf download {repository} --local-dir FOLDER`; `difuso convert FOLDER` reads it without running code"
        )
    with user_errors(repository):
        checkpoint = _install(snapshot, (*SMALL, weights), out)
    print_summary(out, checkpoint)
    typer.echo(f"from {repository} at {snapshot.name[:12]}")


def _install(snapshot: Path, files: Sequence[str], out: Path) -> Checkpoint:
    """Copies those of these files that exist, loads the copy, and renames it to `out` if it can be served."""
    from difuso.model import load_checkpoint  # torch, for which a refusal before should not wait
    from difuso.model.folders.new_folder import new_folder

    with new_folder(out) as fresh:
        for file in files:
            if (snapshot / file).is_file():
                (fresh / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(snapshot / file, fresh / file)  # the cache has links
        checkpoint = load_checkpoint(fresh)
        call_once(checkpoint)
        return checkpoint


def _download(repository: str, revision: str | None, files: Sequence[str]) -> Path:
    """Downloads those of these files that exist; returns the folder of the commit in the cache, named after it."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # errors of the hub, which say what to do, of the network and of the disk
        raise UserError(f"{repository} cannot be downloaded: {error}") from error
