"""What the page makes of files and texts that somebody made to do harm, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import chunk, png
from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

BAD = {"toString": "no function"}
RECIPE = {"kind": "generate", "model": "tiny", "seed": 1, "steps": 2, "sampler": "ddim"}


def png_with(recipe: Any) -> bytes:
    """A small image that says how it was made."""
    text = b"difuso\0\0\0\0\0" + json.dumps(recipe).encode()
    return png([[(1, 2, 3)] * 16] * 16, extra=chunk(b"iTXt", text))


def drop(studio: Studio, file: Path, recipe: Any) -> str:
    """Drops an image with a recipe; returns what the page says about it, and closes its dialog."""
    file.write_bytes(png_with(recipe))
    studio.drop(studio.one("#stage"), file)
    shown = studio.see("dialog.recipe").text
    studio.click("dialog.recipe button.close")
    wait_until(lambda: not studio.all("dialog.recipe"), 5, "the dialog is closed")
    return shown


def test_only_recipes_of_our_kinds_can_be_made_again(studio: Studio, tmp_path: Path) -> None:
    """An address is made of the kind, and with a key the request would send it there."""
    file = tmp_path / "picture.png"
    for right in ({}, {"conditions": {"hair": ["short"], "style": [[0.5, -1]]}}, {"upscale": None}, {"images": [BAD]}):
        shown = drop(studio, file, RECIPE | right)
        assert ("Make it again" in shown) != ("images" in right), right
        assert "no recipe" not in shown, right
    for wrong in (
        {"kind": "/evil.example/x"},
        {"kind": "generate/../jobs"},
        {"kind": ["generate"]},
        {"kind": None},
        {"kind": ""},
        {"model": {"name": "tiny"}},
        {"model": None},
        {"pictures": "abc"},
        {"pictures": [BAD]},
        {"conditions": {"hair": BAD}},
        {"conditions": {"hair": [BAD]}},
        {"conditions": {"hair": 7}},
        {"conditions": None},
        {"conditions": [7]},
        {"upscale": {"model": BAD}},
        {"seed": BAD},
        {"eta": [BAD]},
        {"guide": json.loads(900 * "[" + 900 * "]")},
    ):
        shown = drop(studio, file, RECIPE | wrong)
        assert "no recipe" in shown, wrong
        assert "Make it again" not in shown, wrong
    for other in ([RECIPE], "generate", 7, None):
        assert "no recipe" in drop(studio, file, other), other
