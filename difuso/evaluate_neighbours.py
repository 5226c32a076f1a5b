"""`difuso evaluate neighbours`: a sheet of a model's images beside the training images that they resemble most."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from evaluation.features import EfficientNetLite0, FeatureArray
from evaluation.neighbours import draw_sheet, find_neighbours
from worker.runner import pick_device

from .errors import UserError, user_errors
from .image_sources import ImageSources
from .progress import progress


@user_errors()
def evaluate_neighbours(
    out: Path,
    source: str | None,
    *,
    sources: ImageSources,
    training: str,
    held_out: str,
    images: int,
    training_images: int,
    device: str,
) -> list[Path]:
    """Prints distances; writes neighbours.png and neighbours.json, and returns their paths.

    The arguments are those of the command; without a source the model draws images with its own settings.

    Raises:
        UserError: if the model or a source of images does not exist, or images differ in size.
    """
    opened = sources.open(source or sources.default, images, least=images)
    known = sources.real(training, training_images, split="train").load()
    new = sources.real(held_out, images).load()
    with progress(f"{opened.name}, {opened.count} images") as tell:
        made = opened.load(tell)
    if made.shape[1:] != known.shape[1:]:
        raise UserError(f"{opened.name} holds images of another size than {sources.model.name} was trained on")
    found = find_neighbours(made, known, new, EfficientNetLite0(pick_device(device)))
    nearest = {"images": _quantiles(found.distances[:, 0]), "held out": _quantiles(found.held_out)}
    facts = {
        "source": opened.name,
        "training": training,
        "held_out": held_out,
        "images": len(made),
        "training_images": len(known),
        "share_nearer_than_95_percent_of_held_out": found.share_below,
        "distance_of_the_nearest": nearest,
        "nearest_first": found.order.tolist(),
    }
    Console(soft_wrap=True).print(
        f"{opened.name}: the median distance to the nearest of {len(known)} training images ({training}) is "
        f"{nearest['images']['0.5']:.2f}; that of held-out images ({held_out}) is {nearest['held out']['0.5']:.2f}\n"
        f"{found.share_below:.1%} of the images are nearer to a training image than 95 % of the held-out images are; "
        "by chance it would be 5 %"
    )
    out.mkdir(parents=True, exist_ok=True)
    sheet, numbers = out / "neighbours.png", out / "neighbours.json"
    draw_sheet(found, made, known).save(sheet)
    numbers.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [sheet, numbers]


def _quantiles(distances: FeatureArray) -> dict[str, float]:
    return {f"{share:g}": float(np.quantile(distances, share)) for share in (0.0, 0.05, 0.5, 0.95)}
