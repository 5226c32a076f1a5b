"""`difuso evaluate conditions`: how often a model's images show what they were asked to show, by a judge."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from difuso.evaluation.judge import Answers, Share, choose_rows, is_there, judged, share_there, train_judge
from difuso.model.conditions import Choice, Conditions
from difuso.model.images import from_levels
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.journal import tile_images

from ..drawing.image_sources import LABEL, ImageSources, conditions_of, passing_folder, real_images_of
from ..errors import UserError, user_errors
from ..progress import progress

REAL_FACES, HELD_OUT_FACES = 10_000, 2_000  # drawn faces that the judge is trained on, and others to test it
SHOWN = 64  # images on the sheet


@user_errors()
def evaluate_conditions(out: Path, *, sources: ImageSources, data: str | None, images: int) -> list[Path]:
    """Prints a table; writes conditions.json and a sheet of the images, conditions.png, and returns their paths.

    Args:
        sources: gives the model and the settings of its runs.
        data: the recipe with the real images and their conditions; None is the one of the model's name.
        images: the number of images that are drawn.

    Raises UserError if there is no such model or recipe, or the model lacks a condition of the recipe.
    """
    model = sources.model
    recipe = load_recipe(data or model.name, networks=sources.networks)
    if recipe.shape != model.shape:
        raise UserError(
            f"{recipe.name} has images of {recipe.shape.in_pixels}, {model.name} of {model.shape.in_pixels}"
        )
    if not judged(recipe.conditions) and recipe.num_classes is None:
        raise UserError(f"{recipe.name} has no classes, choices or numbers: name another with --data")
    with passing_folder(out) as folder:
        real = real_images_of(recipe, folder, split="train", faces=REAL_FACES)
        held_out = real_images_of(recipe, folder, split="test", faces=HELD_OUT_FACES)
    classes: Conditions = {} if real.classes is None else {LABEL: Choice(real.classes)}
    conditions = judged({**classes, **recipe.conditions})
    rows = choose_rows(conditions, held_out.columns, images)
    made = sources.drawn(model.name, {}, images, conditions_of(recipe, held_out, rows))
    with progress("training the judge") as report:
        judge = train_judge(real.images, real.columns, conditions, report)
    drawn = made.load()[..., : recipe.channels]
    found, of_real = judge.answers(drawn), judge.answers(held_out.images)
    asked, shares, ceilings = {}, {}, {}
    for name, condition in conditions.items():
        values, known = (part.numpy() for part in held_out.columns[name])
        seen = is_there(condition, values, of_real[name])
        ceilings[name] = share_there(condition, values[known], seen[known])
        # What the judge does not see in the real image itself, such as a beard under a mask, none can show it.
        asked[name], visible = values[rows], seen[rows]
        there = is_there(condition, asked[name], found[name])
        shares[name] = share_there(condition, asked[name][visible], there[visible])
    _print(shares, ceilings)
    facts = {
        **(made.drawn_by or {}),
        "seed": sources.seed,
        "data": recipe.name,
        "judge_images": len(real.images),
        "conditions": {name: {"there": asdict(shares[name]), "real": asdict(ceilings[name])} for name in conditions},
    }
    numbers, sheet = out / "conditions.json", out / "conditions.png"
    numbers.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    captions = [_mistakes(conditions, asked, found, row) for row in range(min(SHOWN, images))]
    tile_images(from_levels(torch.from_numpy(drawn[:SHOWN])), captions).save(sheet)
    return [sheet, numbers]


def _mistakes(conditions: Conditions, asked: Answers, found: Answers, row: int) -> list[str]:
    """Returns what an image does not show though it was asked to, as "hair: bun, seen afro"."""
    return [
        f"{name}: {one.values[int(asked[name][row])]}, seen {one.values[int(found[name][row])]}"
        for name, one in conditions.items()
        if isinstance(one, Choice) and asked[name][row] != found[name][row]
    ]


def _print(shares: Mapping[str, Share], ceilings: Mapping[str, Share]) -> None:
    table = Table("condition", box=None, pad_edge=False)
    for heading in ("asked and there", "images", "the judge on real images", "images"):
        table.add_column(heading, justify="right")
    for name, share in shares.items():
        ceiling = ceilings[name]
        table.add_row(name, str(share), str(share.images), str(ceiling), str(ceiling.images))
    Console(soft_wrap=True, highlight=False).print(table)
