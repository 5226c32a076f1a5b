"""A glance at a model: the first samples of its sheet, without its margin, and small."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from difuso.app import glance as module
from difuso.app.glance import glance
from difuso.model.shape import Shape

SIDE, GAP = 16, 2


def sheet(path: Path, margin: int, side: int = SIDE) -> Path:
    """Saves a sheet of 8x8 grey samples, whose grey is their number."""
    size = 8 * (side + GAP) - GAP + 2 * margin
    whole = Image.new("L", (size, size), "white")
    for index in range(64):
        row, column = divmod(index, 8)
        x, y = (margin + each * (side + GAP) for each in (column, row))
        whole.paste(3 * index, (x, y, x + side, y + side))
    whole.save(path)
    return path


@pytest.mark.parametrize("margin", [0, GAP])
def test_a_glance_has_the_first_eight_samples_without_a_margin(tmp_path: Path, margin: int) -> None:
    made = Image.open(io.BytesIO(glance(sheet(tmp_path / "sheet.png", margin), margin, Shape(1, SIDE, SIDE))))
    assert (made.format, made.size) == ("WEBP", (4 * (SIDE + GAP) - GAP, 2 * (SIDE + GAP) - GAP))
    for index in range(8):
        row, column = divmod(index, 4)
        shown = made.convert("L").getpixel((column * (SIDE + GAP) + SIDE // 2, row * (SIDE + GAP) + SIDE // 2))
        assert shown == pytest.approx(3 * (8 * row + column), abs=8)


def test_it_is_made_anew_for_another_file_and_never_wide(tmp_path: Path) -> None:
    path = sheet(tmp_path / "sheet.png", 0)
    before = glance(path, 1, Shape(1, SIDE, SIDE))
    sheet(path, 0, 256)
    assert glance(path, 1, Shape(1, SIDE, SIDE)) is before
    assert max(Image.open(io.BytesIO(glance(path, 2, Shape(1, 256, 256)))).size) <= 520


def test_what_is_no_sheet_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")
    with pytest.raises(OSError, match="cannot identify"):
        glance(broken, 0, Shape(1, SIDE, SIDE))
    monkeypatch.setattr(module, "MOST_PIXELS", 100)
    with pytest.raises(ValueError, match="pixels"):
        glance(sheet(tmp_path / "sheet.png", 0), 7, Shape(1, SIDE, SIDE))
