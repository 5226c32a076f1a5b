"""`difuso evaluate bpd`: the variational bound of a checkpoint's chain for images that it was not trained on."""

import json
from pathlib import Path
from typing import Any

import typer

from difuso.evaluation.bits_per_dimension import plot_vlb, summary, variational_bound
from difuso.evaluation.real_images import real_images
from difuso.model import Checkpoint, load_checkpoint
from difuso.model.likelihood import Vlb
from difuso.model.plans.spacing import visit_levels
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import pick_device

from ..errors import UserError, user_errors
from ..models_folder import find_model, models_folder
from ..progress import progress

BATCH = 8  # images in one network call
PARTS = {"prior": "L_T (prior)", "terms": "sum of L_{t-1}", "decoder": "L_0 (decoder)", "vlb": "vlb"}


def evaluate_bpd(
    out: Path,
    *,
    model: str | None,
    data: str,
    count: int,
    steps: int | None,
    seed: int,
    settings: WorkerSettings,
) -> list[Path]:
    """Prints the bound; writes bpd.json and bpd.png, and returns their paths.

    The arguments are those of the command; `steps` is the number of the chain's timesteps, evenly spaced over 0..T-1.

    Raises UserError if the model, the chain or the images do not exist or cannot be used.
    """
    info = find_model(model, models_folder(settings))
    with user_errors(info.name):
        if info.config.condition is not None:
            raise UserError("this model draws from an image, and bits per dimension are those of images alone")
        if not info.config.accepts(None):
            raise UserError("this model needs conditions, and these images come with none")
        checkpoint = load_checkpoint(info.path, networks=settings.networks)
        total = checkpoint.schedule.num_train_timesteps
        levels = visit_levels(checkpoint.schedule, "linspace", total if steps is None else steps)
        with user_errors():  # the message names the image, not the model
            images = real_images(data, count, shape=info.config.shape, networks=settings.networks)
        with progress(f"{info.name}, {len(images)} images, {len(levels.timesteps)} steps") as report:
            device = pick_device(settings.device)
            result = variational_bound(
                checkpoint, images, levels, batch_size=BATCH, seed=seed, device=device, report=report
            )
    found = summary(result)
    _print(result, found, checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "model": info.name,
        "version": checkpoint.version,
        "data": data,
        "images": len(images),
        "seed": seed,
        "num_train_timesteps": total,
        "steps": len(levels.timesteps),
        "prediction": checkpoint.config.prediction,
        "variance": checkpoint.config.variance,
        "clip": checkpoint.config.clip.mode,
    }
    numbers, plot = out / "bpd.json", out / "bpd.png"
    numbers.write_text(json.dumps(facts | found, indent=2) + "\n", encoding="utf-8")
    plot_vlb(result, plot)
    return [numbers, plot]


def _print(result: Vlb, found: dict[str, Any], checkpoint: Checkpoint) -> None:
    steps, total = len(result.timesteps), checkpoint.schedule.num_train_timesteps
    chain = f"all {total} steps" if steps == total else f"a respaced chain of {steps} steps (its bound differs)"
    typer.echo(f"{checkpoint.name}: {len(result.prior)} images, {chain}")
    for key, name in PARTS.items():
        mean, error = found["bits_per_dim"][key].values()
        typer.echo(f"{name:16}{mean:8.5f}{'' if error is None else f' ± {error:.5f}'} bits/dim")
    typer.echo(f"mean squared error of eps {found['l_simple']['mean']:.5f} (L_simple, which is not a likelihood)")
