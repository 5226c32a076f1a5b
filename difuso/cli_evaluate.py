"""`difuso evaluate`: the commands that measure a model, or pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .environment import read_settings
from .logs import log_lines
from .options import CHECKPOINTS, ModelsDir

evaluate = typer.Typer(help="Measures models and pictures.", no_args_is_help=True)

OUT = Path("var/evaluation")
Model = Annotated[str | None, typer.Option(help="Name of a checkpoint; by default the first.")]
Guidance = Annotated[float | None, typer.Option(min=0, help="Of classifier-free guidance, for a model with classes.")]
Inception = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|download",
        help="Weights of Inception, for FID; without them EfficientNet-Lite0, whose figures have other names.",
    ),
]


@evaluate.command()
def quality(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="The model's pictures by SAMPLER:STEPS[:SPACING], a folder, an .npz file in ADM's layout, `faces`; "
            "by default the model as it likes to be run.",
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            help="Real pictures: a folder, an .npz file, a recipe (its data), or `faces`: drawn, and never trained on."
        ),
    ] = "faces",
    model: Model = None,
    models_dir: ModelsDir = CHECKPOINTS,
    images: Annotated[
        int | None, typer.Option(min=1, help="Of each source; by default all, or 1000 if they must be drawn.")
    ] = None,
    references: Annotated[int | None, typer.Option(min=1, help="Of the reference; likewise.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of picture 0 of each run; picture i has seed + i.")] = 1_000_000,
    guidance_scale: Guidance = None,
    inception_weights: Inception = None,
    out: Annotated[Path, typer.Option(help="Folder for the table, the plot, and the pictures that are drawn.")] = OUT,
) -> None:
    """Measures pictures beside real ones: FID, sFID, Inception score, precision, recall, KID, in one table."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worker.settings import WorkerSettings

    from .evaluate_quality import evaluate_quality
    from .image_sources import Studio

    log_lines("evaluate")
    settings = read_settings(WorkerSettings).model_copy(update={"models_dir": models_dir})
    studio = Studio(settings=settings, model=model, seed=seed, guidance_scale=guidance_scale, folder=out / "pictures")
    written = evaluate_quality(
        out,
        sources or (),
        studio=studio,
        reference=reference,
        images=images,
        references=references,
        inception_weights=inception_weights,
    )
    _print_paths(written)


@evaluate.command()
def neighbours(
    source: Annotated[
        str | None,
        typer.Argument(
            help="As of `quality`: SAMPLER:STEPS[:SPACING], a folder or an .npz file; by default the model."
        ),
    ] = None,
    training: Annotated[
        str, typer.Option(help="What the model was trained on: a folder, a recipe, or `faces`.")
    ] = "faces",
    held_out: Annotated[
        str, typer.Option(help="Pictures of the same kind that it was not trained on: a folder, a recipe, or `faces`.")
    ] = "faces",
    model: Model = None,
    models_dir: ModelsDir = CHECKPOINTS,
    images: Annotated[int, typer.Option(min=20, help="Pictures, and as many that are held out.")] = 200,
    training_images: Annotated[int, typer.Option(min=5, help="Training images at most.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Of picture 0.")] = 1_000_000,
    guidance_scale: Guidance = None,
    out: Annotated[Path, typer.Option(help="Folder for neighbours.png and neighbours.json.")] = OUT,
) -> None:
    """Looks for training images that a model has learned by heart: the ones that its pictures are most like."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worker.settings import WorkerSettings

    from .evaluate_neighbours import evaluate_neighbours
    from .image_sources import Studio

    log_lines("evaluate")
    settings = read_settings(WorkerSettings).model_copy(update={"models_dir": models_dir})
    studio = Studio(settings=settings, model=model, seed=seed, guidance_scale=guidance_scale, folder=out / "pictures")
    written = evaluate_neighbours(
        out,
        source,
        studio=studio,
        training=training,
        held_out=held_out,
        images=images,
        training_images=training_images,
    )
    _print_paths(written)


@evaluate.command()
def losses(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders with a metrics.jsonl.")],
    key: Annotated[str, typer.Option(help="Which of the logged figures.")] = "loss",
    out: Annotated[Path, typer.Option(help="PNG file.")] = OUT / "losses.png",
) -> None:
    """Draws the loss curves of several training runs in one figure."""
    from training.loss_curves import plot_runs

    from .errors import UserError

    try:
        plot_runs(runs, out, key=key)
    except ValueError as error:
        raise UserError(str(error)) from error
    typer.echo(out)


@evaluate.command()
def bpd(
    model: Model = None,
    folder: ModelsDir = CHECKPOINTS,
    data: Annotated[
        str, typer.Option(help="Pictures: a folder, a recipe, or `faces`: drawn, and never trained on.")
    ] = "faces",
    images: Annotated[int, typer.Option(min=1, help="How many of them.")] = 16,
    steps: Annotated[int | None, typer.Option(help="Of the chain; by default all that the model has.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one network call.")] = 8,
    seed: Annotated[int, typer.Option(help="Of image 0's noise; image i has seed + i.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for bpd.json and bpd.png.")] = OUT,
) -> None:
    """Bounds the likelihood of pictures, in bits per dimension: the variational bound and its parts."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worker.settings import WorkerSettings

    from .evaluate_bpd import evaluate_bpd

    log_lines("evaluate")
    written = evaluate_bpd(
        out,
        models_dir=folder,
        model=model,
        data=data,
        count=images,
        steps=steps,
        batch_size=batch,
        seed=seed,
        device=read_settings(WorkerSettings).device,
    )
    _print_paths(written)


def _print_paths(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(path)
