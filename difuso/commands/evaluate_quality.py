"""`difuso evaluate quality`: compares images with real ones, in a table and plots."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import typer

from difuso.evaluation.features import EfficientNetLite0, Extractor, InceptionV3, read_weights
from difuso.evaluation.figures import Quality, evaluate, to_json, to_markdown
from difuso.evaluation.image_sets import Half, ImageSet, from_array, from_path
from difuso.evaluation.judge import complete_rows
from difuso.evaluation.real_images import DRAWN, names_recipe, real_images
from difuso.evaluation.reference import read_reference
from difuso.model.shape import Shape
from difuso.training.recipe_reading import load_recipe
from difuso.worker.stepping.runner import pick_device

from ..drawing.image_sources import RUN, ImageConditions, ImageSources, conditions_of, passing_folder, real_images_of
from ..errors import user_errors
from ..progress import progress
from ..terminal import printable


@user_errors()
def evaluate_quality(
    out: Path,
    names: Sequence[str],
    *,
    sources: ImageSources,
    reference: str,
    images: int | None,
    references: int | None,
    half: str | None,
    conditions: str | None,
    inception_weights: str | None,
) -> list[Path]:
    """Prints the table; writes quality.md and quality.json; returns their paths.

    The arguments are those of the command. `names` are its sources; None stands for an option that is not given.

    Raises UserError if the model, a source of images or the weights do not exist, or images differ in size.
    """
    names = names or [sources.default]
    given = None if conditions is None else _held_out(conditions, sources, out, images or DRAWN)
    # All first, so that mistakes show early.
    sets = [sources.open(name, images, least=DRAWN, given=given) for name in names]
    real = _real(reference, names, sets, sources, references)
    if half is not None:
        mine, other = Half(half).of(real), Half(half).other.of(real)
        most = min(other.count, max(each.count for each in sets))
        sets.append(replace(other, name="other real images", count=most))
        real = mine
    extractor = _extractor(inception_weights, sources.device)
    with progress(f"{real.name}, {real.count} images") as report:
        # The moments in a file are those of the whole set.
        statistics = Path(reference) if reference.endswith(".npz") and half is None else None
        target = read_reference(real, extractor, statistics=statistics, report=report)
    qualities: list[Quality] = []
    written: list[Path] = []
    for each in sets:
        with progress(f"{each.name}, {each.count} images") as report:
            qualities.append(evaluate(each, target, extractor, report))
        # Written after each set, so that an interrupted command leaves the finished ones.
        facts = {"reference": reference, "half": half, "conditions": conditions, "seed": sources.seed}
        written = _write(qualities, facts, out)
    typer.echo(printable(to_markdown(qualities)))
    return written


def _held_out(data: str, sources: ImageSources, out: Path, count: int) -> ImageConditions:
    """Returns the conditions of held-out images of a recipe."""
    recipe = load_recipe(data, networks=sources.networks)
    with passing_folder(out) as folder:
        held_out = real_images_of(recipe, folder, split="test", faces=count)
    return conditions_of(recipe, held_out, np.resize(complete_rows(held_out.columns), count))


def _real(
    reference: str, names: Sequence[str], sets: Sequence[ImageSet], sources: ImageSources, count: int | None
) -> ImageSet:
    """Opens the reference: in the size of what the model draws, or else of the sources if it is a recipe."""
    if any(RUN.fullmatch(name) for name in names):
        return sources.real(reference, count)
    if names_recipe(reference):
        height, width, channels = sets[0].draw(0, 1).shape[1:]
        images = real_images(reference, count, shape=Shape(channels, height, width), networks=sources.networks)
        return from_array(Path(reference).name, images)
    return from_path(Path(reference), count)


def _extractor(inception_weights: str | None, device: str) -> Extractor:
    if inception_weights is None:
        return EfficientNetLite0(pick_device(device))
    return InceptionV3(read_weights(inception_weights), pick_device(device))


def _write(qualities: Sequence[Quality], facts: dict[str, Any], out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    text, numbers = out / "quality.md", out / "quality.json"
    text.write_text(to_markdown(qualities), encoding="utf-8")
    numbers.write_text(json.dumps({**facts, "rows": to_json(qualities)}, indent=2) + "\n", encoding="utf-8")
    return [text, numbers]
