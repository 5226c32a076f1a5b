"""`difuso evaluate`: the commands that measure a model, or images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UserError
from .logs import log_lines
from .options import CHECKPOINTS, ModelsDir, read_settings

if TYPE_CHECKING:
    from .image_sources import ImageSources

evaluate = typer.Typer(help="Measures models and images.", no_args_is_help=True)

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


@evaluate.callback()
def begin() -> None:
    """Measures models and images."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is loaded
    log_lines("evaluate")


@evaluate.command()
def quality(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="The model's images by SAMPLER:STEPS[:SPACING], a folder, an .npz file in ADM's layout, or `faces`; "
            "by default the run that the model recommends.",
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            help="Real images: a folder, an .npz file, a recipe (its data), or `faces`: drawn, and never trained on."
        ),
    ] = "faces",
    model: Model = None,
    models_dir: ModelsDir = CHECKPOINTS,
    images: Annotated[
        int | None, typer.Option(min=1, help="Of each source; by default all, or 1000 if they must be drawn.")
    ] = None,
    references: Annotated[
        int | None, typer.Option(min=1, help="Of the reference; by default all, or 1000 if they must be drawn.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of image 0 of each run; image i has seed + i.")] = 1_000_000,
    guidance_scale: Guidance = None,
    inception_weights: Inception = None,
    out: Annotated[Path, typer.Option(help="Folder for the table, the plot, and the images that are drawn.")] = OUT,
) -> None:
    """Measures images beside real ones: FID, sFID, Inception score, precision, recall, KID, in one table."""
    from .evaluate_quality import evaluate_quality

    written = evaluate_quality(
        out,
        sources or (),
        sources=_image_sources(out, model, models_dir, seed=seed, guidance_scale=guidance_scale),
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
            help="As of `quality`: SAMPLER:STEPS[:SPACING], a folder or an .npz file; by default the run that the "
            "model recommends."
        ),
    ] = None,
    training: Annotated[
        str, typer.Option(help="What the model was trained on: a folder, a recipe, or `faces`.")
    ] = "faces",
    held_out: Annotated[
        str, typer.Option(help="Images of the same kind that it was not trained on: a folder, a recipe, or `faces`.")
    ] = "faces",
    model: Model = None,
    models_dir: ModelsDir = CHECKPOINTS,
    images: Annotated[int, typer.Option(min=20, help="Of the source, and as many that are held out.")] = 200,
    training_images: Annotated[int, typer.Option(min=5, help="Training images at most.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Of image 0; image i has seed + i.")] = 1_000_000,
    guidance_scale: Guidance = None,
    out: Annotated[Path, typer.Option(help="Folder for neighbours.png and neighbours.json.")] = OUT,
) -> None:
    """Looks for training images that a model has learned by heart: the ones that its images are most like."""
    from .evaluate_neighbours import evaluate_neighbours

    written = evaluate_neighbours(
        out,
        source,
        sources=_image_sources(out, model, models_dir, seed=seed, guidance_scale=guidance_scale),
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
        str, typer.Option(help="Images: a folder, a recipe, or `faces`: drawn, and never trained on.")
    ] = "faces",
    images: Annotated[int, typer.Option(min=1, help="How many of them.")] = 16,
    steps: Annotated[int | None, typer.Option(help="Of the chain; by default all that the model has.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one network call.")] = 8,
    seed: Annotated[int, typer.Option(help="Of image 0's noise; image i has seed + i.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for bpd.json and bpd.png.")] = OUT,
) -> None:
    """Bounds the likelihood of images, in bits per dimension: the variational bound and its parts."""
    from worker.settings import WorkerSettings

    from .evaluate_bpd import evaluate_bpd

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


def _image_sources(
    out: Path, model: str | None, models_dir: Path, *, seed: int, guidance_scale: float | None
) -> ImageSources:
    from worker.settings import WorkerSettings

    from .image_sources import ImageSources

    settings = read_settings(WorkerSettings).model_copy(update={"models_dir": models_dir})
    return ImageSources(
        settings=settings, model=model, seed=seed, guidance_scale=guidance_scale, folder=out / "pictures"
    )


def _print_paths(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(path)
