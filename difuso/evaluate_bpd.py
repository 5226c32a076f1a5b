"""`difuso evaluate bpd`: what a checkpoint's chain makes of images that it has not seen, into a folder."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluation.bits_per_dimension import mean_and_error, measure, plot_vlb, summary
from model import Checkpoint, ModelConfig, ModelError, load_checkpoint
from model.likelihood import Vlb
from model.spacing import visit_levels
from worker.runner import pick_device

from .errors import UserError
from .progress import progress
from .real_images import find_model, real_images


def evaluate_bpd(
    out: Path,
    *,
    models_dir: Path,
    model: str | None,
    data: str,
    count: int,
    steps: int | None,
    batch_size: int,
    seed: int,
    device: str,
) -> list[Path]:
    """Prints the bound; writes and returns bpd.json and bpd.png.

    Args:
        out: folder for the files.
        model: name of a checkpoint in `models_dir`; None is the first.
        data: `faces`, drawn for this and never trained on, or a folder of pictures.
        count: images at most.
        steps: levels of the chain, evenly spaced with both ends; None is all T.
        batch_size, seed: see `measure`.
        device: see `pick_device`.

    Raises:
        UserError: if there is no such model, chain or data.
    """
    info = find_model(model, models_dir)
    try:
        checkpoint = load_checkpoint(models_dir / info.name)
        _check_needs_no_label(checkpoint.config)
        levels = visit_levels(checkpoint.schedule, "linspace", info.num_train_timesteps if steps is None else steps)
        images = real_images(data, count, size=info.image_size, channels=info.channels)
        with progress(f"{info.name}, {len(images)} images, {len(levels.timesteps)} steps") as tell:
            result = measure(
                checkpoint, images, levels, batch_size=batch_size, seed=seed, device=pick_device(device), tell=tell
            )
    except ModelError as error:
        raise UserError(f"{info.name}: {error}") from error
    _print(result, checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "model": info.name,
        "sha256": checkpoint.sha256,
        "data": data,
        "images": len(images),
        "seed": seed,
        "num_train_timesteps": info.num_train_timesteps,
        "steps": len(levels.timesteps),
        "prediction": checkpoint.config.prediction,
        "variance": checkpoint.config.variance,
        "clip": checkpoint.config.clip.mode,
    }
    numbers, plot = out / "bpd.json", out / "bpd.png"
    numbers.write_text(json.dumps(facts | summary(result), indent=2) + "\n", encoding="utf-8")
    plot_vlb(result, plot)
    return [numbers, plot]


def _check_needs_no_label(config: ModelConfig) -> None:
    if not config.network.null_class:
        raise UserError("this model needs a class for every image, and images from a folder have none")


def _print(result: Vlb, checkpoint: Checkpoint) -> None:
    steps, total = len(result.timesteps), checkpoint.schedule.num_train_timesteps
    chain = f"all {total} steps" if steps == total else f"a respaced chain of {steps} steps (a bound of its own)"
    table = Table(box=None, pad_edge=False)
    table.add_column("part")
    for heading in ("bits/dim", "standard error"):
        table.add_column(heading, justify="right")
    parts = {
        "L_T (prior)": result.prior,
        "sum of L_{t-1}": result.terms.sum(dim=1),
        "L_0 (decoder)": result.decoder,
        "vlb": result.total,
    }
    for name, bits in parts.items():
        mean, error = mean_and_error(bits).values()
        table.add_row(name, f"{mean:.5f}", "" if error is None else f"{error:.5f}")
    console = Console(soft_wrap=True)
    console.print(f"{checkpoint.name}: {len(result.prior)} images, {chain}")
    console.print(table)
    console.print(f"mean squared error of eps {result.mse.mean():.5f} (L_simple, which is no likelihood)")
