"""The figures that compare a set of images with a reference, and their table. A new figure is one entry of FIGURES.

docs/evaluation.md explains what each figure means and which may be compared.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from .distances import (
    SPLIT,
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    frechet_distance,
    frechet_without_bias,
    inception_score,
    kernel_distance,
    moments,
    precision_recall,
)
from .features import Extractor, Features, InceptionV3
from .image_sets import ImageSet
from .reference import Reference, extract_of_size

NEIGHBOUR = 3  # k of precision and recall, as in ADM's evaluator
COVERING = 5  # k of density and coverage, as in their publication
PUBLISHED_IMAGES = 50_000
ARROWS = {"lower": "↓", "higher": "↑"}


class Measured(NamedTuple):
    """The value of a figure, and its standard error or deviation; those of other protocols may not be compared."""

    value: float
    protocol: str
    spread: float | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Images and a reference, from which figures are computed; its texts become parts of protocols."""

    features: Features
    reference: Reference

    @property
    def images(self) -> int:
        return len(self.features.pooled)

    @property
    def pooled(self) -> str:
        return f"{self.features.pooled.shape[1]} pooled features"

    @property
    def counts(self) -> str:
        return f"{self.images} images, {len(self.reference.features)} of the reference"

    @property
    def counts_of_moments(self) -> str:
        file = f"{self.images} images, moments from the reference's file"
        return file if self.reference.file_moments else self.counts

    @cached_property
    def precision_recall(self) -> PrecisionRecall:
        """Precision and recall, which are computed together."""
        return precision_recall(self.features.pooled, self.reference.features, k=NEIGHBOUR)

    @cached_property
    def density_coverage(self) -> DensityCoverage:
        """Density and coverage, which are computed together."""
        return density_coverage(self.features.pooled, self.reference.features, k=COVERING)


@dataclass(frozen=True)
class Figure:
    """A kind of figure."""

    key: str  # name with any features
    better: Literal["lower", "higher"]  # which values are better
    measure: Callable[[Comparison], Measured]  # function that computes the value from images and a reference
    published: str | None = None  # name with Inception's features, if that differs
    unit: int = 1  # factor by which the table multiplies the value
    digits: int = 2  # digits after the decimal point in the table

    def short(self, extractor: str) -> str:
        """The figure's name without that of the extractor."""
        return self.published or self.key if extractor == InceptionV3.name else self.key

    def name(self, extractor: str) -> str:
        """The figure's full name; with Inception's features it does not name the extractor."""
        short = self.short(extractor)
        return short if extractor == InceptionV3.name else f"{short}-{extractor}"

    def heading(self, extractor: str) -> str:
        """The heading of the figure's column."""
        unit = "" if self.unit == 1 else f" x {self.unit}"
        return f"{self.short(extractor)}{unit} {ARROWS[self.better]}"

    def text(self, measured: Measured) -> str:
        """A cell of the figure's column."""
        numbers = [number for number in (measured.value, measured.spread) if number is not None]
        return " ± ".join(f"{self.unit * number:.{self.digits}f}" for number in numbers)


def _frechet(c: Comparison) -> Measured:
    value = frechet_distance(moments(c.features.pooled), c.reference.pooled)
    return Measured(value, f"{c.pooled}, {c.counts_of_moments}")


def _spatial_frechet(c: Comparison) -> Measured:
    value = frechet_distance(moments(c.features.spatial), c.reference.spatial)
    return Measured(value, f"{c.features.spatial.shape[1]} spatial features, {c.counts_of_moments}")


def _inception_score(c: Comparison) -> Measured:
    score, parts = inception_score(c.features.logits), -(-c.images // SPLIT)
    if parts == 1:
        return Measured(score.value, f"{c.images} images in 1 part")
    return Measured(score.value, f"{c.images} images in {parts} parts", score.spread)


def _kernel(c: Comparison) -> Measured:
    value, error = kernel_distance(c.features.pooled, c.reference.features)
    return Measured(value, f"{c.pooled}, all pairs, {c.counts}", error)


def _unbiased(c: Comparison) -> Measured:
    reference = c.reference.pooled if c.reference.file_moments else c.reference.features
    return Measured(frechet_without_bias(c.features.pooled, reference), f"{c.pooled}, from {c.counts_of_moments}")


def _measured(value: float, c: Comparison, k: int) -> Measured:
    return Measured(value, f"{c.pooled}, k = {k}, {c.counts}")


_ALL = (
    Figure("FD", "lower", _frechet, published="FID"),
    Figure("FD∞", "lower", _unbiased, published="FID∞"),
    Figure("sFD", "lower", _spatial_frechet, published="sFID"),
    Figure("IS", "higher", _inception_score),
    Figure("Precision", "higher", lambda c: _measured(c.precision_recall.precision, c, NEIGHBOUR), digits=3),
    Figure("Recall", "higher", lambda c: _measured(c.precision_recall.recall, c, NEIGHBOUR), digits=3),
    Figure("Density", "higher", lambda c: _measured(c.density_coverage.density, c, COVERING), digits=3),
    Figure("Coverage", "higher", lambda c: _measured(c.density_coverage.coverage, c, COVERING), digits=3),
    Figure("KID", "lower", _kernel, unit=1000),
)
FIGURES = {figure.key: figure for figure in _ALL}  # in the order of the columns


@dataclass(frozen=True)
class Quality:
    """The figures of one set of images."""

    # name, extractor, reference: names of the set, its extractor and its reference
    name: str
    extractor: str
    reference: str
    images: int  # number of images in the set
    dims: int  # largest number of features of a Fréchet distance
    figures: Mapping[str, Measured]  # values by the keys of FIGURES, in their order
    drawn_by: Mapping[str, Any] | None = None  # see `ImageSet`

    @property
    def named(self) -> dict[str, Measured]:
        """The values by the full names of their figures."""
        return {FIGURES[key].name(self.extractor): measured for key, measured in self.figures.items()}


def evaluate(
    images: ImageSet,
    reference: Reference,
    extractor: Extractor,
    report: Callable[[float], None] = lambda share: None,
) -> Quality:
    """Computes all figures of a set of images, with the extractor of the reference; reports the share done, 0..1.

    Raises EvaluationError if there are too few images, or they have another size than the reference's.
    """
    features = extract_of_size(images, extractor, reference.size, report)
    comparison = Comparison(features, reference)
    return Quality(
        name=images.name,
        extractor=extractor.name,
        reference=reference.name,
        images=images.count,
        dims=max(features.pooled.shape[1], features.spatial.shape[1]),
        figures={key: figure.measure(comparison) for key, figure in FIGURES.items()},
        drawn_by=images.drawn_by,
    )


def to_json(qualities: Sequence[Quality]) -> list[dict[str, Any]]:
    """Returns a row for each set of images; every value comes with its protocol."""
    return [
        {
            "name": quality.name,
            "images": quality.images,
            "reference": quality.reference,
            "extractor": quality.extractor,
            "figures": {name: measured._asdict() for name, measured in quality.named.items()},
            "drawn": quality.drawn_by,
        }
        for quality in qualities
    ]


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
    """Returns the table with its notes as Markdown, in the layout of publications (Dhariwal & Nichol 2021, table 5)."""
    first = qualities[0]
    title = f"Features of {first.extractor}, against {first.reference}"
    rows = [["", "images", *(FIGURES[key].heading(first.extractor) for key in first.figures)]]
    for each in qualities:
        figures = (FIGURES[key].text(measured) for key, measured in each.figures.items())
        rows.append([_literally(each.name), str(each.images), *figures])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in aligned)
    below = "\n".join(f"- {_literally(note)}" for note in notes(qualities))
    return f"**{_literally(title)}**\n\n{table}\n\n{below}\n"


def _literally(text: str) -> str:
    """Returns Markdown that shows a text as it stands: names of files may hold anything."""
    return re.sub(r"([\\`*\[\]<>|]|\b_|_\b)", r"\\\1", text)
