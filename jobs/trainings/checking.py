"""Makes a dataset of what was sent: an archive of usable pictures under safe names, and a summary for people."""

import csv
import hashlib
import io
import json
import time
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageOps

from difuso.archive_names import composed

from ..values import Reported
from .archives import DatasetRefused, Entry
from .pictures import ADVICE, KINDS, Unusable, read_picture

LEAST, FEW = 50, 500  # pictures: with fewer nothing is learned, and a model of few remembers each
SECONDS = 900.0  # that reading the pictures of one dataset may take
SHOWN = 100  # files that were left out, with their reasons
SHEET, TILE, COLUMNS = 48, 64, 12  # thumbnails, and how they lie on their sheet
MAX_TABLE = 1 << 24  # bytes
MAX_COLUMNS = 64
TABLES = (".csv", ".jsonl")
FILE_NAME = "file_name"


class LeftOut(Reported):
    """A file that is not in the dataset, and why."""

    name: str
    reason: str


class Summary(Reported):
    """What a dataset holds: `sizes` are the shortest and the longest side, `columns` the different values of each.

    `classes` are the pictures of each folder. `left_out` are the first of `left_out_count` files that were refused, and
    `duplicates` how many of all have the pixels of another. `advice` says what to expect of so few pictures.
    """

    count: int
    sizes: tuple[int, int]
    classes: dict[str, int]
    columns: dict[str, int]
    duplicates: int
    left_out: tuple[LeftOut, ...]
    left_out_count: int
    advice: str | None = None


def make_dataset(entries: Iterable[Entry], table: tuple[str, bytes] | None, out: Path) -> Summary:
    """Writes the archive `out` of the usable pictures; raises DatasetRefused if there are too few.

    Args:
        table: the name and the content of a table of the pictures' values.
    """
    until, left_out, duplicates = time.monotonic() + SECONDS, list[LeftOut](), 0
    names: dict[str, str] = {}  # by the SHA-256 of the pixels
    sides: list[int] = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        taken = set[str]()
        for entry in entries:
            if time.monotonic() > until:
                raise DatasetRefused(
                    f"Reading the pictures takes more than {SECONDS:.0f} s: send fewer, or smaller ones"
                )
            try:
                image, name = _picture(entry, taken)
            except Unusable as error:
                left_out.append(LeftOut(name=ascii(entry.name[:100])[1:-1], reason=str(error)))
                continue
            pixels = hashlib.sha256(b"%d %d " % image.size + image.tobytes()).hexdigest()
            if pixels in names:
                duplicates += 1
                left_out.append(LeftOut(name=name, reason=f"its pixels are those of {names[pixels]}"))
                continue
            names[pixels] = name
            taken.add(name)
            sides += image.size
            archive.writestr(name, _png(image))
    found = sorted(taken)
    if len(found) < LEAST:
        raise DatasetRefused(_too_few(len(found), left_out))
    classes = Counter(folder for name in found if (folder := PurePosixPath(name).parent.name))
    return Summary(
        count=len(found),
        sizes=(min(sides), max(sides)),
        classes=dict(sorted(classes.items())),
        columns={} if table is None else _columns(*table, taken),
        duplicates=duplicates,
        left_out=tuple(left_out[:SHOWN]),
        left_out_count=len(left_out),
        advice=f"with fewer than {FEW} pictures a model remembers them: what it draws are copies"
        if len(found) < FEW
        else None,
    )


def thumbnails(archive: Path) -> bytes:
    """Returns a sheet of up to SHEET pictures, from all over the archive, as they are cropped for training: a PNG."""
    with zipfile.ZipFile(archive) as pictures:
        names = sorted(pictures.namelist())
        shown = [names[index * len(names) // min(SHEET, len(names))] for index in range(min(SHEET, len(names)))]
        sheet = Image.new("RGB", (COLUMNS * TILE, -(-len(shown) // COLUMNS) * TILE), "white")
        for place, name in enumerate(shown):
            tile = ImageOps.fit(Image.open(io.BytesIO(pictures.read(name))), (TILE, TILE))
            sheet.paste(tile, (place % COLUMNS * TILE, place // COLUMNS * TILE))
    return _png(sheet)


def _picture(entry: Entry, taken: set[str]) -> tuple[Image.Image, str]:
    """Returns the picture of an entry, and its name in the dataset; raises Unusable."""
    if entry.reason is not None:
        raise Unusable(entry.reason)
    path = PurePosixPath(entry.name)
    if path.suffix.lower() == ".zip":
        raise Unusable("archives in archives are not opened")
    if path.suffix.lower() not in KINDS | {".heic", ".heif", ".avif"}:
        raise Unusable(f"its name is not that of a picture that can be read: {ADVICE}")
    if str(path) in taken:
        raise Unusable("another file has its name")
    try:
        data = entry.read()
    except Exception as error:  # a torn or hostile archive raises errors of many kinds
        raise Unusable("its part of the archive is damaged") from error
    return read_picture(data), str(path)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _too_few(count: int, left_out: list[LeftOut]) -> str:
    why = f"; {len(left_out)} files were left out, such as {left_out[0].name}: {left_out[0].reason}" if left_out else ""
    there = "is 1 picture" if count == 1 else f"are {count} pictures"
    return f"There {there} that can be used, and {LEAST} is the least: several hundred learn better{why}"


def _columns(name: str, content: bytes, pictures: set[str]) -> dict[str, int]:
    """Returns the number of different values in each column of a table; raises DatasetRefused if it is none."""
    values: dict[str, set[str]] = {}
    named: dict[str, int] = {}
    for number, row in enumerate(_rows(name, content), start=1):
        file = row.get(FILE_NAME)
        if not isinstance(file, str) or not file:
            raise DatasetRefused(f"Row {number} has no {FILE_NAME}, the path of a picture in the archive", "table")
        file = composed(file)
        if file in named:
            raise DatasetRefused(f"Rows {named[file]} and {number} have the same {FILE_NAME}", "table")
        named[file] = number
        for column, value in row.items():
            if column != FILE_NAME and value not in (None, ""):
                values.setdefault(column, set()).add(str(value))
        if len(values) > MAX_COLUMNS:
            raise DatasetRefused(f"The table has more than {MAX_COLUMNS} columns", "table")
    if not named.keys() & pictures:
        example = next(iter(sorted(pictures)))
        raise DatasetRefused(f"No row names a picture: {FILE_NAME} should be a path such as {example}", "table")
    return {column: len(found) for column, found in values.items()}


def _rows(name: str, content: bytes) -> Iterable[dict[str, Any]]:
    try:
        text = content.decode("utf-8-sig")
        if name.lower().endswith(TABLES[0]):
            rows: list[Any] = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, csv.Error, RecursionError) as error:
        raise DatasetRefused("The table cannot be read: send CSV in UTF-8, or JSON Lines", "table") from error
    if not all(isinstance(row, dict) and None not in row for row in rows):
        raise DatasetRefused("Each row of the table should have a value for each column, and no more", "table")
    return rows
