"""`difuso evaluate neighbours`: sheets of a model's images and the training images that they resemble most."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from difuso.evaluation.features import EfficientNetLite0, FeatureArray
from difuso.evaluation.image_sets import from_path
from difuso.evaluation.neighbours import FEATURES, PIXELS, PLANTED, SHOWN, Neighbours, Search, find_neighbours
from difuso.evaluation.real_images import names_recipe, training_images
from difuso.model.images import from_levels
from difuso.training.data.batches import shown
from difuso.training.data.images import ImageArray
from difuso.training.data.nearest import CHANCE
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.journal import tile_images
from difuso.worker.stepping.runner import pick_device

from ..drawing.image_sources import ImageSources
from ..errors import UserError, user_errors

ROWS, TILE = 10, 64  # of a sheet: its rows, and the least width of an image in pixels
HELD_OUT = 1000  # images that the threshold rests on, at most
UNITS = {PIXELS: " (root mean square of grey levels)", FEATURES: f" ({EfficientNetLite0.name})"}


@user_errors()
def evaluate_neighbours(
    out: Path,
    source: str | None,
    *,
    sources: ImageSources,
    training: str,
    held_out: str | None,
    images: int,
) -> list[Path]:
    """Prints distances; writes neighbours.json and a sheet for each kind of distance, and returns their paths.

    The arguments are those of the command; without a source the model draws images with its own settings.

    Raises UserError if the model or a source of images does not exist, or images differ in size.
    """
    known = _training(training, sources)
    recipe = load_recipe(training, networks=sources.networks) if names_recipe(training) else None
    if recipe is None and held_out is None:
        raise UserError(f"{training} has no test half: say which images were not trained on, with --held-out")
    new = _held_out(held_out or training, sources)
    opened = sources.open(source or sources.default, images, least=images)
    made = opened.load()
    if made.shape[1:3] != new.shape[1:3]:
        raise UserError(f"{opened.name} holds images of another size than {sources.model.name} was trained on")
    # A folder does not say whether training mirrored its images, and looking for mirrored ones costs little.
    symmetries = shown(True if recipe is None else recipe.data.flip)
    found = find_neighbours(made, new, known, EfficientNetLite0(pick_device(sources.device)), symmetries=symmetries)
    facts = {
        "source": opened.name,
        "images": len(made),
        "training": training,
        "training_images": found.searched,
        "held_out": held_out or training,
        "held_out_images": len(new),
        **{name: _facts(neighbours) for name, neighbours in found.by.items()},
    }
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"Searched: all {found.searched} images of {training}. "
        f"Chance is known from {len(new)} images that were not trained on ({held_out or training})."
    )
    for name, neighbours in found.by.items():
        console.print(_said(name, neighbours))
    out.mkdir(parents=True, exist_ok=True)
    numbers = out / "neighbours.json"
    numbers.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    sheets = {name: out / f"neighbours-{name}.png" for name in found.by}
    for name, path in sheets.items():
        _sheet(found.by[name], made, found).save(path)
    return [*sheets.values(), numbers]


def _training(data: str, sources: ImageSources) -> Iterable[ImageArray]:
    """Opens all training images, as a stream."""
    images = training_images(data, shape=sources.model.shape, networks=sources.networks)
    return (np.broadcast_to(image, (*image.shape[:2], 3)) for image in images)


def _held_out(data: str, sources: ImageSources) -> ImageArray:
    """Opens images that were not trained on, HELD_OUT of them if there are as many."""
    if data.endswith(".npz"):
        return from_path(Path(data)).load()[:HELD_OUT]
    return sources.real(data, HELD_OUT).load()


def _sheet(neighbours: Neighbours, images: ImageArray, found: Search) -> Image.Image:
    """Shows images with their scores, and after each its nearest training images with their distances.

    On the left are the lowest scores of all, on the right a sample of all, from the lowest to the highest.
    """
    count, (indices, distances) = len(neighbours.order), (neighbours.indices, neighbours.distances)
    spread = np.linspace(0, count - 1, min(ROWS, count)).round().astype(int)
    tiles: list[ImageArray] = []
    captions: list[list[str]] = []
    for place in np.stack([np.arange(len(spread)), spread], axis=1).flat:
        tiles += [images[neighbours.order[place]], *(found.training[i] for i in indices[place, :SHOWN])]
        captions += [[f"score {neighbours.scores[place]:.2f}"], *([f"{far:.2f}"] for far in distances[place, :SHOWN])]
    times = max(1, TILE // images.shape[2])  # small images are enlarged so that they can be seen
    pixels = np.stack(tiles).repeat(times, axis=1).repeat(times, axis=2)
    return tile_images(from_levels(torch.from_numpy(pixels)), captions, columns=2 * (1 + SHOWN))


def _said(name: str, found: Neighbours) -> str:
    nearest, count = found.distances[:, 0], len(found.order)
    error, all_by_chance = found.chance_error, count / (len(found.held_out_scores) + 1)
    return (
        f"By {name}{UNITS[name]}:\n"
        f"- {found.share_below:.1%} of {count} images have a lower score than {1 - CHANCE:.0%} of the held-out images; "
        f"by chance it would be {CHANCE:.1%} ± {error:.1%}\n"
        f"- {found.below_all} have a lower score than every held-out image; by chance it would be {all_by_chance:.2g}\n"
        f"- lowest score {found.scores[0]:.2f}, threshold {found.threshold:.2f}; median distance to the nearest "
        f"training image {np.median(nearest):.2f}, of held-out images {np.median(found.held_out_distances):.2f}\n"
        f"- power: a copy with noise of {PLANTED:g} grey levels is found with probability {found.found:.2f}"
    )


def _facts(found: Neighbours) -> dict[str, Any]:
    return {
        "threshold": found.threshold,
        "share_below": found.share_below,
        "by_chance": CHANCE,
        "by_chance_error": found.chance_error,
        "below_every_held_out": found.below_all,
        f"power_for_copies_with_noise_of_{PLANTED:g}": found.found,
        "scores": {"images": _quantiles(found.scores), "held out": _quantiles(found.held_out_scores)},
        "distance_of_the_nearest": {
            "images": _quantiles(found.distances[:, 0]),
            "held out": _quantiles(found.held_out_distances),
        },
        "lowest_first": found.order.tolist(),
    }


def _quantiles(distances: FeatureArray) -> dict[str, float]:
    return {f"{share:g}": float(np.quantile(distances, share)) for share in (0.0, 0.05, 0.5, 0.95)}
