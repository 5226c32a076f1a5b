"""Draws the figures of docs/paper.md: all of them, or the named ones."""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from ..report import say
from . import forward, interpolation, loop, loss, start, update

FIGURES = {
    "forward": forward.draw,
    "loss": loss.draw,
    "update": update.draw,
    "loop": loop.draw,
    "start": start.draw,
    "interpolation": interpolation.draw,
}
FOLDER = Path("docs/images/paper")


def main(
    figures: Annotated[
        list[str] | None, typer.Argument(metavar="FIGURE", help=f"Of {', '.join(FIGURES)}; by default all.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the PNG files.")] = FOLDER,
) -> None:
    """Draws figures as NAME.png and prints their numbers; all take eight minutes on one core."""
    unknown = set(figures or ()) - set(FIGURES)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(FIGURES)}", param_hint="FIGURE")
    torch.set_num_threads(1)  # the order of a sum depends on the number of threads
    for name in figures or FIGURES:
        begin = time.perf_counter()
        FIGURES[name](out / f"{name}.png")
        say(f"{name}: {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    typer.run(main)
