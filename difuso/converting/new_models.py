"""Names and summaries of new models, for `difuso convert` and `difuso pull`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from difuso.jobs.params import MODEL_NAME

from ..errors import UserError

if TYPE_CHECKING:
    from difuso.model import Checkpoint


def name_from(text: str) -> str:
    """Makes a model's name from another name."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).lstrip("._-")[:64] or "model"


def check_name(name: str) -> None:
    """Raises UserError unless a folder of this name can be a model."""
    if not re.fullmatch(MODEL_NAME, name):
        raise UserError(f"{name!r} is not a name for a model: it may have a-z, 0-9, dots, dashes and underscores")


def print_summary(out: Path, checkpoint: Checkpoint) -> None:
    """Prints the facts of a folder that was loaded, and how to use it."""
    parameters = sum(parameter.numel() for parameter in checkpoint.network.parameters())
    networks = {"a classifier": checkpoint.classifier, "a weaker network": checkpoint.weaker}
    guides = " and ".join(name for name, network in networks.items() if network is not None)
    facts = f"{parameters:,} parameters, {checkpoint.config.shape.in_pixels} pixels{guides and f', with {guides}'}"
    typer.echo(f"{out}: {facts}; it can be loaded")
    typer.echo(f"serve it:   difuso serve --models-dir {out.parent}")
    typer.echo(f"or sample:  difuso sample --models-dir {out.parent} --model {out.name}")
