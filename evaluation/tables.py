"""Figures of quality as a table in the layout of publications (Dhariwal & Nichol 2021, table 5), and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .distances import SPLIT
from .inception import InceptionV3
from .quality import NEIGHBOUR, Quality

PUBLISHED_IMAGES = 50_000
ARROWS = {"lower": "↓", "higher": "↑"}


@dataclass(frozen=True)
class Figure:
    """One figure and what must be said beside it.

    Attributes:
        short: heading of its column.
        extractor: by name; FID, its like and no other figure are called without it.
        better: `lower` or `higher`.
        protocol: what it was made of; figures of different protocols may not be compared.
        spread: its standard error or deviation, if it has one.
    """

    short: str
    extractor: str
    value: float
    better: str
    protocol: str
    spread: float | None = None

    @property
    def name(self) -> str:
        return self.short if self.extractor == InceptionV3.name else f"{self.short}-{self.extractor}"

    @property
    def heading(self) -> str:
        return f"{self.short}{' x 1000' if self.short == 'KID' else ''} {ARROWS[self.better]}"

    @property
    def text(self) -> str:
        if self.short == "KID":
            return f"{1000 * self.value:.2f} ± {1000 * (self.spread or 0):.2f}"
        return f"{self.value:.3f}" if self.short in ("Precision", "Recall") else f"{self.value:.2f}"


def figures(quality: Quality) -> list[Figure]:
    """All figures of a set of pictures, in the order of the columns."""
    extractor = quality.extractor
    distance = "FID" if extractor == InceptionV3.name else "FD"
    pooled = f"{quality.dims} pooled features"
    counts = f"{quality.images} pictures, {quality.reference_images} of the reference"
    normals = f"{quality.images} pictures, moments from the reference's file" if quality.file_moments else counts
    parts = -(-quality.images // SPLIT)
    score, neighbours, kid = quality.inception_score, quality.neighbours, quality.kid
    near = f"{pooled}, k = {NEIGHBOUR}, {counts}"
    return [
        Figure(distance, extractor, quality.frechet, "lower", f"{pooled}, {normals}"),
        Figure(
            f"s{distance}",
            extractor,
            quality.spatial_frechet,
            "lower",
            f"{quality.spatial_dims} spatial features, {normals}",
        ),
        Figure(
            "IS",
            extractor,
            score.mean,
            "higher",
            f"{quality.images} pictures in {parts} part{'s' if parts > 1 else ''}",
            score.spread if parts > 1 else None,
        ),
        Figure("Precision", extractor, neighbours.precision, "higher", near),
        Figure("Recall", extractor, neighbours.recall, "higher", near),
        Figure("KID", extractor, kid.value, "lower", f"{pooled}, all pairs, {counts}", kid.standard_error),
    ]


def to_json(qualities: Sequence[Quality]) -> list[dict[str, Any]]:
    """A row for each set of pictures; every value has its protocol beside it."""
    return [
        {
            "name": quality.name,
            "images": quality.images,
            "reference": quality.reference,
            "extractor": quality.extractor,
            "seconds_per_image": quality.seconds_per_image,
            "figures": {
                figure.name: {"value": figure.value, "spread": figure.spread, "protocol": figure.protocol}
                for figure in figures(quality)
            },
        }
        for quality in qualities
    ]


def title(qualities: Sequence[Quality]) -> str:
    """Of the table: what the rows share."""
    return f"Features of {qualities[0].extractor}, against {qualities[0].reference}"


def headings(quality: Quality) -> list[str]:
    """Of the table's columns."""
    return ["", "pictures", *(figure.heading for figure in figures(quality)), "s/picture"]


def cells(quality: Quality) -> list[str]:
    """One row of the table."""
    seconds = "" if quality.seconds_per_image is None else f"{quality.seconds_per_image:.3g}"
    return [quality.name, str(quality.images), *(figure.text for figure in figures(quality)), seconds]


def notes(qualities: Sequence[Quality]) -> list[str]:
    """What a reader of the table must know: what the figures are made of, and what they may not be compared with."""
    protocols = (f"{figure.name}: {figure.protocol}." for quality in qualities for figure in figures(quality))
    lines = list(dict.fromkeys(protocols))
    first, fewest = qualities[0], min(quality.images for quality in qualities)
    if first.extractor != InceptionV3.name:
        lines.append("None of these is an FID, or can be compared with one: the features are another network's.")
    if fewest < PUBLISHED_IMAGES:
        lines.append(
            f"Published figures are of {PUBLISHED_IMAGES} pictures. With fewer, Fréchet distances come out larger: "
            "compare only figures of as many pictures against the same reference."
        )
    if fewest <= max(first.dims, first.spatial_dims):
        lines.append("With fewer pictures than features go by KID, which has no bias.")
    return lines


def to_markdown(qualities: Sequence[Quality]) -> str:
    """The table with its notes."""
    heads = headings(qualities[0])
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *(cells(quality) for quality in qualities)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"**{title(qualities)}**\n\n{table}\n\n" + "\n".join(f"- {line}" for line in notes(qualities)) + "\n"
