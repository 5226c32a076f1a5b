"""`difuso evaluate quality`: pictures beside real ones, as a table and plots in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from evaluation.image_sets import EvaluationError, Pictures
from evaluation.plots import Curve, Panel, plot_panels
from evaluation.quality import Quality, evaluate, read_reference
from evaluation.tables import Figure, cells, figures, headings, notes, title, to_json, to_markdown
from model import ModelError
from training.errors import RecipeError

from .errors import UserError
from .image_sources import RUN, Studio
from .progress import progress
from .real_images import FACES, pick_extractor, real_pictures, stored
from .sampled_images import Drawing

DRAWN = 1000  # pictures of a run, or faces, unless the user says otherwise


class Row(NamedTuple):
    """One set of pictures: its figures, and how it was drawn if it was drawn here."""

    quality: Quality
    drawing: Drawing | None


def evaluate_quality(
    out: Path,
    sources: Sequence[str],
    *,
    studio: Studio,
    reference: str,
    images: int | None,
    references: int | None,
    inception_weights: str | None,
) -> list[Path]:
    """Prints the table; writes and returns quality.md, quality.json and, for runs of several lengths, quality.png.

    Args:
        out: folder for the files.
        sources: SAMPLER:STEPS[:SPACING], folders, .npz files, `faces`; none is the studio's default.
        reference: `faces`, a folder or an .npz file.
        images: of each source; None is all of a folder or file, and `DRAWN` of what must be drawn.
        references: of the reference; likewise.
        inception_weights: see `read_weights`; None takes EfficientNet-Lite0 instead.

    Raises:
        UserError: if something of this does not exist or does not fit.
    """
    try:
        sources = sources or [studio.default]
        sets = [_open(source, studio, images, references) for source in sources]  # mistakes show before the work
        real = _real(reference, sources, studio, references)
        extractor = pick_extractor(inception_weights, studio.settings.device)
        with progress(f"{real.name}, {real.count} pictures") as tell:
            statistics = Path(reference) if reference.endswith(".npz") else None
            beside = read_reference(real, extractor, statistics=statistics, tell=tell)
        rows: list[Row] = []
        written: list[Path] = []
        for pictures, drawing in sets:
            seconds = drawing.seconds_per_image if drawing else lambda: None
            with progress(f"{pictures.name}, {pictures.count} pictures") as tell:
                quality = evaluate(pictures, beside, extractor, seconds_per_image=seconds, tell=tell)
            rows.append(Row(quality, drawing))
            written = _write(rows, {"reference": reference, "seed": studio.seed}, out)  # a run cut short leaves these
    except (ModelError, RecipeError, EvaluationError) as error:
        raise UserError(str(error)) from error
    _print([row.quality for row in rows])
    return written


def _open(source: str, studio: Studio, images: int | None, references: int | None) -> tuple[Pictures, Drawing | None]:
    if source == FACES:  # others than those of the reference
        return real_pictures(FACES, images or DRAWN, studio.info, first=references or DRAWN), None
    return studio.open(source, images, least=DRAWN)


def _real(reference: str, sources: Sequence[str], studio: Studio, count: int | None) -> Pictures:
    """The reference; beside a model in the model's size, else as it is."""
    if reference == FACES:
        return real_pictures(FACES, count or DRAWN, studio.info)
    if any(RUN.fullmatch(source) for source in sources):
        return real_pictures(reference, count, studio.info)
    return stored(reference, count)


def _print(qualities: Sequence[Quality]) -> None:
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings(qualities[0])):
        table.add_column(heading, justify="right" if index else "left")
    for quality in qualities:
        table.add_row(*cells(quality))
    console = Console(soft_wrap=True)
    console.width = max(console.width, 140)  # a table that is cut to 80 columns says nothing
    console.print(title(qualities))
    console.print(table)
    for note in notes(qualities):
        console.print(f"- {note}")


def _write(rows: Sequence[Row], facts: dict[str, Any], out: Path) -> list[Path]:
    qualities = [row.quality for row in rows]
    out.mkdir(parents=True, exist_ok=True)
    text, numbers, plot = out / "quality.md", out / "quality.json", out / "quality.png"
    text.write_text(to_markdown(qualities), encoding="utf-8")
    entries = to_json(qualities)
    for entry, (_, drawing) in zip(entries, rows, strict=True):
        entry["drawn"] = drawing and drawing.facts
    numbers.write_text(json.dumps({**facts, "rows": entries}, indent=2) + "\n", encoding="utf-8")
    if len({row.drawing.params.steps for row in rows if row.drawing}) < 2:
        return [text, numbers]
    plot_panels([_panels(rows, place) for place in (-1, 0)], plot)  # KID, then the Frechet distance
    return [text, numbers, plot]


def _panels(rows: Sequence[Row], place: int) -> list[Panel]:
    """One of the figures against steps and against seconds; pictures that come from elsewhere are lines across."""
    points: dict[str, list[tuple[float, float, Figure]]] = {}
    levels = {}
    for quality, drawing in rows:
        figure = figures(quality)[place]
        if drawing is None:
            levels[quality.name] = figure.value
        else:
            params = drawing.params
            point = (params.steps, quality.seconds_per_image or 0.0, figure)
            points.setdefault(f"{params.sampler}, {params.spacing}", []).append(point)
    by_steps = {name: _curve(line, 0) for name, line in points.items()}
    by_seconds = {name: _curve(line, 1) for name, line in points.items()}
    return [
        Panel(f"{figure.name} by steps", "steps (network calls)", figure.name, by_steps, levels),
        Panel(f"{figure.name} by time", "seconds per picture", figure.name, by_seconds, levels),
    ]


def _curve(line: Sequence[tuple[float, float, Figure]], axis: Literal[0, 1]) -> Curve:
    line = sorted(line, key=lambda point: point[:2][axis])
    errors = [figure.spread for _, _, figure in line if figure.spread is not None]
    return Curve([point[axis] for point in line], [figure.value for _, _, figure in line], errors or None)
