"""`difuso evaluate neighbours`: the training images that a model's pictures are most like, as a sheet in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from evaluation.features import FeatureArray
from evaluation.image_sets import EvaluationError, gather
from evaluation.neighbours import draw_sheet, find_neighbours
from model import ModelError
from training.errors import RecipeError

from .errors import UserError
from .image_sources import Studio
from .progress import progress
from .real_images import pick_extractor, real_pictures


def evaluate_neighbours(
    out: Path,
    source: str | None,
    *,
    studio: Studio,
    training: str,
    held_out: str,
    images: int,
    training_images: int,
) -> list[Path]:
    """Prints how near they are; writes and returns neighbours.png and neighbours.json.

    Args:
        out: folder for the files.
        source: SAMPLER:STEPS[:SPACING], a folder or an .npz file; None is the studio's default.
        training, held_out: `faces` or a folder; see `real_pictures`.
        images: pictures, and as many that are held out.
        training_images: at most.

    Raises:
        UserError: if something of this does not exist or does not fit.
    """
    try:
        drawn, _ = studio.open(source or studio.default, images, least=images)
        known = gather(real_pictures(training, training_images, studio.info, split="train"))
        new = gather(real_pictures(held_out, images, studio.info))
        with progress(f"{drawn.name}, {drawn.count} pictures") as tell:
            pictures = gather(drawn, tell)
        if pictures.shape[1:] != known.shape[1:]:
            raise UserError(f"{drawn.name} holds pictures of another size than {studio.info.name} was trained on")
        found = find_neighbours(pictures, known, new, pick_extractor(None, studio.settings.device))
    except (ModelError, RecipeError, EvaluationError) as error:
        raise UserError(str(error)) from error
    nearest = {"pictures": found.distances[:, 0], "held out": found.held_out}
    facts = {
        "source": drawn.name,
        "training": training,
        "held_out": held_out,
        "images": len(pictures),
        "training_images": len(known),
        "share_nearer_than_95_percent_of_held_out": found.share_below,
        "distance_of_the_nearest": {name: _quantiles(distances) for name, distances in nearest.items()},
        "nearest_first": found.order.tolist(),
    }
    medians = {name: float(np.median(distances)) for name, distances in nearest.items()}
    Console(soft_wrap=True).print(
        f"{drawn.name}: the nearest of {len(known)} training images ({training}) is {medians['pictures']:.2f} away "
        f"in the median, and {medians['held out']:.2f} from held-out pictures ({held_out})\n"
        f"{found.share_below:.1%} are nearer to one than 95 % of the held-out pictures are; by chance it would be 5 %"
    )
    out.mkdir(parents=True, exist_ok=True)
    sheet, numbers = out / "neighbours.png", out / "neighbours.json"
    draw_sheet(found, pictures, known).save(sheet)
    numbers.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [sheet, numbers]


def _quantiles(distances: FeatureArray) -> dict[str, float]:
    return {f"{share:g}": float(np.quantile(distances, share)) for share in (0.0, 0.05, 0.5, 0.95)}
