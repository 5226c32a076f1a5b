"""Figures of quality as a table in the layout of publications (Dhariwal & Nichol 2021, table 5), and as JSON."""

from collections.abc import Sequence
from typing import Any

from .figures import FIGURES, Quality
from .inception import InceptionV3

PUBLISHED_IMAGES = 50_000


def to_json(qualities: Sequence[Quality]) -> list[dict[str, Any]]:
    """Returns a row for each set of images; every value comes with its protocol."""
    return [
        {
            "name": quality.name,
            "images": quality.images,
            "reference": quality.reference,
            "extractor": quality.extractor,
            "seconds_per_image": quality.seconds_per_image,
            "figures": {name: measured._asdict() for name, measured in quality.named.items()},
            "drawn": quality.drawn_by,
        }
        for quality in qualities
    ]


def title(qualities: Sequence[Quality]) -> str:
    """The title of the table: what its rows share."""
    return f"Features of {qualities[0].extractor}, against {qualities[0].reference}"


def headings(quality: Quality) -> list[str]:
    """The headings of the table's columns."""
    return ["", "images", *(FIGURES[key].heading(quality.extractor) for key in quality.figures), "s/image"]


def cells(quality: Quality) -> list[str]:
    """One row of the table."""
    seconds = "" if quality.seconds_per_image is None else f"{quality.seconds_per_image:.3g}"
    figures = (FIGURES[key].text(measured) for key, measured in quality.figures.items())
    return [quality.name, str(quality.images), *figures, seconds]


def notes(qualities: Sequence[Quality]) -> list[str]:
    """The notes below the table: how figures were computed, and which comparisons are not valid."""
    protocols = (f"{name}: {measured.protocol}." for each in qualities for name, measured in each.named.items())
    lines = list(dict.fromkeys(protocols))
    first, fewest = qualities[0], min(quality.images for quality in qualities)
    if first.extractor != InceptionV3.name:
        lines.append("None of these is an FID or can be compared with one: the features are those of another network.")
    if fewest < PUBLISHED_IMAGES:
        lines.append(
            f"Published figures are of {PUBLISHED_IMAGES} images. With fewer, Fréchet distances come out larger: "
            "compare only figures of equally many images with the same reference."
        )
    if fewest <= first.dims:
        lines.append("With fewer images than features, go by KID, which has no bias.")
    return lines


def to_markdown(qualities: Sequence[Quality]) -> str:
    """Returns the table with its notes as Markdown."""
    heads = headings(qualities[0])
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *(cells(quality) for quality in qualities)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"**{title(qualities)}**\n\n{table}\n\n" + "\n".join(f"- {line}" for line in notes(qualities)) + "\n"
