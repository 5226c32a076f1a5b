"""Tables beside the images, with a row for each: CSV, or JSON Lines, and the image's path in the column `file_name`."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, TextIO

from difuso.archive_names import composed

from ..errors import RecipeError
from .source_images import Source, SourceImage

FILE_NAME = "file_name"  # as in the metadata.csv and metadata.jsonl of Hugging Face's folders of images
LABEL = "label"

Rows = dict[str, tuple[str, Mapping[str, Any]]]  # by file name: the row's place, for messages, and its values


def with_table(source: Source, path: Path, classes: tuple[str, ...], *, needed: bool = True) -> Source:
    """Gives each image of a source what its row of a table says; an image without a row has no values.

    The names of the images are their paths below the folder, or in the archive. The table is a `.csv` file, whose first
    row names the columns, or a `.jsonl` file with an object in each line. Empty cells and nulls say nothing. A column
    `label` holds classes, by name or by number; without `classes` these are in alphabetical order.

    Raises RecipeError if the table cannot be read, two rows name one image, or, from the items, no row names an image
    although one is `needed`.
    """
    rows, columns = read_table(path)
    labels = {str(values[LABEL]) for _, values in rows.values() if LABEL in values}
    if labels:  # the folders of the images are no classes then
        numbered = all(label.isdecimal() for label in labels)
        items = (item._replace(label=None) for item in source.items)
        source = replace(source, items=items, classes=classes or (None if numbered else tuple(sorted(labels))))
    return replace(source, items=_joined(source, rows, path, needed=needed), columns=columns)


def _joined(source: Source, rows: Rows, path: Path, *, needed: bool) -> Iterator[SourceImage]:
    found = not needed
    for item in source.items:
        name = composed(PurePath(item.name).as_posix())
        place, values = rows.get(name, (f"{path.name}, without a row for {item.name}", {}))
        found |= bool(values)
        label = _label(place, values[LABEL], source.classes) if LABEL in values else item.label
        yield item._replace(label=label, values=values, place=place)
    if not found:
        example = next(iter(rows), "no image")
        raise RecipeError(
            f"no row of {path} names an image: {FILE_NAME} must be a path below data.path, unlike {example}"
        )


def _label(place: str, value: Any, classes: tuple[str, ...] | None) -> int:
    name = str(value)
    if classes is not None and name in classes:
        if classes.count(name) > 1:
            raise RecipeError(f"{place}, column {LABEL}: several classes are called {name}; give the number of one")
        return classes.index(name)
    if name.isdecimal():
        return int(name)
    raise RecipeError(f"{place}, column {LABEL}: {name} is not among the classes, {', '.join(classes or ())}")


def read_table(path: Path) -> tuple[Rows, tuple[str, ...]]:
    """Reads a table; returns its rows, and the names of its columns. Raises RecipeError if it cannot be read."""
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix not in readers:
        raise RecipeError(f"data.table must be a file {' or '.join(readers)}, not {path}")
    rows: Rows = {}
    columns: dict[str, None] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for place, values in readers[path.suffix](file):
                columns |= dict.fromkeys(values)
                name = values.get(FILE_NAME)
                if not isinstance(name, str) or not name:
                    raise RecipeError(f"{path.name}, {place}: {FILE_NAME} is missing, the path of the image")
                image = composed(PurePath(name).as_posix())
                if image in rows:
                    raise RecipeError(f"{rows[image][0]} and {place} have the same {FILE_NAME}, {name}")
                known = {column: value for column, value in values.items() if value not in (None, "")}
                rows[image] = f"{path.name}, {place}", known
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"data.table {path} cannot be read: {error}") from error
    return rows, tuple(columns)


def _csv_rows(file: TextIO) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yields (place, values) of each row, which is numbered as in a spreadsheet."""
    for number, values in enumerate(csv.DictReader(file, strict=True), start=2):
        if None in values:
            raise RecipeError(f"{Path(file.name).name}, row {number}: there are more cells than columns")
        yield f"row {number}", {column: (value or "").strip() for column, value in values.items()}


def _json_rows(file: TextIO) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yields (place, values) of each line."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise RecipeError(f"{Path(file.name).name}, line {number} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise RecipeError(f"{Path(file.name).name}, line {number} must be an object of columns and values")
        yield f"line {number}", values
