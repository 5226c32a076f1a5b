"""`difuso evaluate`: the commands that measure models and images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from difuso.jobs.queries import Choices

from ..logs import log_lines
from ..options import ModelsDir, Server, read_settings, takes

if TYPE_CHECKING:
    from ..drawing.image_sources import ImageSources

evaluate = typer.Typer(help="Measures models and images.", no_args_is_help=True)

OUT = Path("var/evaluation")
OF_SOURCES = ("sampler", "steps", "spacing")  # settings that the name of a source holds
Model = Annotated[str | None, typer.Option(help="Name of a checkpoint; by default the first.")]
Inception = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|download",
        help="Weights of Inception, which FID needs; by default EfficientNet-Lite0, whose figures have other names.",
    ),
]


@evaluate.callback()
def begin() -> None:
    """Measures models and images."""
    log_lines("evaluate")


@evaluate.command()
@takes(Choices, but=OF_SOURCES)
def quality(
    *,
    query: Choices,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Images: SAMPLER:STEPS[:SPACING] draws them with the model, and plan:NAME with one of its plans; or a "
            "folder, or an .npz file in ADM's layout. By default the model draws them with its own settings.",
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(help="Real images: a folder, an .npz file, or a recipe (its images that were never trained on)."),
    ] = "faces64",
    model: Model = None,
    models_dir: ModelsDir = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images of each SOURCE; by default all, or 1000 if they must be drawn.")
    ] = None,
    references: Annotated[
        int | None, typer.Option(min=1, help="Reference images; by default all, or 1000 if they must be drawn.")
    ] = None,
    half: Annotated[
        Literal["choosing", "reporting"] | None,
        typer.Option(
            help="Use this half of the reference, and of the seeds, and add real images of the other half to the "
            "table: settings are chosen on one half and reported on the other. By default the whole is used."
        ),
    ] = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Give each drawn image the conditions of a held-out image of this recipe; by default those of a "
            "request without conditions, and the classes take turns.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of image 0 of each SOURCE; image i has seed + i. By default 1000000, or 3000000 for choosing.",
        ),
    ] = None,
    server: Server = None,
    inception_weights: Inception = None,
    out: Annotated[Path, typer.Option(help="Folder for the table and the drawn images.")] = OUT,
) -> None:
    """Compares images with real ones: FID, sFID, Inception score, precision, recall and KID in one table."""
    from difuso.evaluation.image_sets import Half

    from .evaluate_quality import evaluate_quality

    first = Half(half or Half.REPORTING).seed if seed is None else seed
    written = evaluate_quality(
        out,
        sources or (),
        sources=_image_sources(out, first, query.chosen, model, models_dir, server=server),
        reference=reference,
        images=images,
        references=references,
        half=half,
        conditions=conditions,
        inception_weights=inception_weights,
    )
    _print_paths(written)


@evaluate.command()
@takes(Choices, but=OF_SOURCES)
def neighbours(
    *,
    query: Choices,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="Images: SAMPLER:STEPS[:SPACING] draws them with the model; or a folder or an .npz file. By default "
            "the model draws them with its own settings.",
        ),
    ] = None,
    training: Annotated[
        str, typer.Option(help="Training images: a recipe, by name or as a file; or a folder. All are searched.")
    ] = "faces64",
    held_out: Annotated[
        str | None,
        typer.Option(
            help="Similar images that were not trained on: a folder, an .npz file, or a recipe. By default "
            "the test half of --training, or the images that it reserves."
        ),
    ] = None,
    model: Model = None,
    models_dir: ModelsDir = None,
    images: Annotated[int, typer.Option(min=20, help="Images of SOURCE.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of image 0; image i has seed + i.")] = 1_000_000,
    out: Annotated[Path, typer.Option(help="Folder for neighbours.json and the sheets of neighbours.")] = OUT,
) -> None:
    """Looks for memorised training images: searches all for those that the model's images resemble most."""
    from .evaluate_neighbours import evaluate_neighbours

    written = evaluate_neighbours(
        out,
        source,
        sources=_image_sources(out, seed, query.chosen, model, models_dir),
        training=training,
        held_out=held_out,
        images=images,
    )
    _print_paths(written)


@evaluate.command()
@takes(Choices)
def conditions(
    *,
    query: Choices,
    model: Annotated[str | None, typer.Argument(help="Name of a checkpoint; by default the first.")] = None,
    models_dir: ModelsDir = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Recipe, by name or as a file, with real images and their conditions; by default the recipe of the "
            "model's name."
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of images to draw.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of image 0; image i has seed + i.")] = 1_000_000,
    server: Server = None,
    out: Annotated[Path, typer.Option(help="Folder for conditions.json, a sheet and the images.")] = OUT,
) -> None:
    """Says how often images show what was asked for: trains a judge on real images, and asks the model for as much."""
    from .evaluate_conditions import evaluate_conditions

    sources = _image_sources(out, seed, query.chosen, model, models_dir, server=server)
    _print_paths(evaluate_conditions(out, sources=sources, data=data, images=images))


@evaluate.command()
def bpd(
    model: Model = None,
    models_dir: ModelsDir = None,
    data: Annotated[
        str, typer.Option(help="Images: a folder, or a recipe (its images that were never trained on).")
    ] = "faces64",
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 16,
    steps: Annotated[int | None, typer.Option(help="Steps of the chain; by default all that the model has.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of image 0's noise; image i has seed + i.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for bpd.json and bpd.png.")] = OUT,
) -> None:
    """Computes the variational bound of images and its parts, in bits per dimension."""
    from difuso.worker.settings import WorkerSettings

    from .evaluate_bpd import evaluate_bpd

    written = evaluate_bpd(
        out,
        model=model,
        data=data,
        count=images,
        steps=steps,
        seed=seed,
        settings=read_settings(WorkerSettings, models_dir=models_dir),
    )
    _print_paths(written)


def _image_sources(
    out: Path,
    seed: int,
    chosen: Mapping[str, Any],
    model: str | None,
    models_dir: str | None,
    *,
    server: str | None = None,
) -> ImageSources:
    from difuso.worker.settings import WorkerSettings

    from ..drawing.image_sources import ImageSources
    from ..drawing.places import find_drawing_model

    settings = read_settings(WorkerSettings)
    return ImageSources(
        find=partial(find_drawing_model, model, server, models_dir=models_dir),
        seed=seed,
        chosen=chosen,
        folder=out / "pictures",
        networks=settings.networks,
        device=settings.device,
    )


def _print_paths(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(path)
